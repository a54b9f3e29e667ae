package command_test

import (
	"io"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/command"
)

func TestTwoStreamsOfOneLogKeepTheirLinesApart(t *testing.T) {
	var log strings.Builder
	stdout, stderr := command.Together(&log)
	for _, w := range []struct {
		to   io.Writer
		text string
	}{
		{stdout, "whole\n"},
		{stderr, "whole too\n"},
		{stdout, "begun"},
		{stdout, " and"},
		{stderr, ""},
		{stdout, " ended\n"},
		{stdout, "begun"},
		{stderr, "interrupts"},
		{stdout, "goes on\n"},
		{stderr, "last"},
	} {
		if n, err := io.WriteString(w.to, w.text); n != len(w.text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "whole\nwhole too\nbegun and ended\nbegun\ninterrupts\ngoes on\nlast"; log.String() != want {
		t.Errorf("%q", log.String())
	}
}
