//go:build e2e

package main_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// imageBuild runs the command that builds the server in the Dockerfile, on a copy of what .dockerignore lets through, and
// returns the program.
func imageBuild(t *testing.T, version string) string {
	t.Helper()
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ .*(make build .*)$`).FindSubmatch(dockerfile)
	if command == nil {
		t.Fatal("the Dockerfile has no make build")
	}
	ignore, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	src, out := t.TempDir(), t.TempDir()
	for line := range strings.Lines(string(ignore)) {
		if name, keep := strings.CutPrefix(strings.TrimSpace(line), "!"); keep {
			if text, err := exec.Command("cp", "-r", filepath.Join("../..", name), src).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
		}
	}
	build := exec.Command("sh", "-c", strings.ReplaceAll(string(command[1]), "/out/", out+"/"))
	build.Dir, build.Env = src, append(os.Environ(), "VERSION="+version, "GOFLAGS=-mod=readonly")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return filepath.Join(out, "usr/bin/riposte")
}

// TestE2EImage: what the Dockerfile builds is the same each time, static, and knows its version; without a Docker engine.
func TestE2EImage(t *testing.T) {
	need(t, "make", "install make")
	const version = "v1.2.3-test"
	first, second := imageBuild(t, version), imageBuild(t, version)
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("two builds in two directories differ: %d and %d bytes", len(a), len(b))
	}
	program, err := elf.NewFile(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 || program.Section(".interp") != nil {
		t.Errorf("it is not static: it needs %v (%v)", libraries, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || settings["-tags"] != "timetzdata" || settings["vcs.revision"] != "" {
		t.Errorf("it is built with %v", settings)
	}
	// As in an image without anything else: no variables, no files of time zones.
	run := exec.Command(first, "version")
	run.Env, run.Dir = []string{"HOME=/nowhere"}, "/"
	if out, err := run.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "riposte "+version {
		t.Errorf("%v %s", err, out)
	}
}
