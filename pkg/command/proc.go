package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stat returns the fields of /proc/PID/stat from the third on, the state; field 2, the name in brackets, may hold anything
// (man 5 proc). It is nil where there is no such process, or no /proc.
func stat(pid string) []string {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 20 {
		return nil
	}
	return f
}

func dead(stat []string) bool { return stat == nil || stat[0] == "Z" || stat[0] == "X" }

// startTime returns when a living process started, in the kernel's ticks since it booted: field 22. It is 0 of a process
// that is dead, and where that can't be told.
func startTime(pid int) int64 {
	f := stat(strconv.Itoa(pid))
	if dead(f) {
		return 0
	}
	ticks, _ := strconv.ParseInt(f[19], 10, 64) // the kernel's own number
	return ticks
}

// bootID names this boot of the machine (man 4 random). It is empty where that can't be told.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// living reports whether a process of the group is alive: dead ones that nobody reaped yet do not count. Where there is no
// /proc it is true.
func living(pgid int) bool {
	if stat("self") == nil {
		return true
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is fine
	for _, dir := range dirs {
		if f := stat(filepath.Base(dir)); !dead(f) && f[2] == strconv.Itoa(pgid) {
			return true
		}
	}
	return false
}
