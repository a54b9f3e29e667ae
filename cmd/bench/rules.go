package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
)

// rules measures the index of rules beside other engines. They are in a module of their own, which prints its figures.
func (b *bench) rules() error {
	cmd := exec.Command("go", "run", ".")
	cmd.Dir, cmd.Stderr = "bench/peers", os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var f struct {
			Name  string
			Value float64
			Unit  string
			Ratio float64
			Peer  string
		}
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return err
		}
		b.report(f.Name, f.Value, f.Unit, f.Ratio, f.Peer)
	}
	return cmd.Wait()
}
