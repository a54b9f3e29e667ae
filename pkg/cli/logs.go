package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
)

func newRunsLogs(r *remote) *cobra.Command {
	var follow bool
	var step string
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Print what a run's steps had to say", Args: arguments("ID"), ValidArgsFunction: r.names("runs", "id"),
		Long: "Logs prints what a run's steps had to say, each line after the name of its step. Of a long log the beginning and the end are kept. " +
			"The id can be shortened while it is unique.",
		Example: "  riposte runs logs 5ENG7J -f\n  riposte runs logs 5ENG7J --step plan -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			path := "runs/" + url.PathEscape(args[0])
			var of api.Run
			if err := c.Get(cmd.Context(), path, nil, &of); err != nil {
				return err
			}
			q := query("step", step)
			if follow {
				q.Set("follow", "true")
			}
			out := cmd.OutOrStdout()
			each := func(line []byte) error {
				_, err := out.Write(line)
				return err
			}
			printer := newLogPrinter(out, of, step)
			if r.output == "text" {
				each = printer.line
			}
			err = c.Lines(cmd.Context(), path+"/logs", q, "Riposte-Logs", each)
			printer.end()
			if cmd.Context().Err() != nil {
				return nil //nolint:nilerr // whoever followed has seen enough
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	cmd.Flags().StringVar(&step, "step", "", "only of the step with this id")
	return cmd
}

// logPrinter prints chunks as lines, each after the name of its step unless only one is asked for.
type logPrinter struct {
	w      io.Writer
	name   bool
	colors bool
	paint  func(color, text string) string
	width  int
	rest   map[string]string // by name of a step's attempt: a line that is not whole yet
	order  []string
}

func newLogPrinter(w io.Writer, of api.Run, step string) *logPrinter {
	terminal := widthOf(w) > 0
	p := &logPrinter{w: w, name: step == "", colors: terminal && os.Getenv("NO_COLOR") == "", paint: painter(terminal), rest: map[string]string{}}
	for _, s := range of.Steps {
		p.width = max(p.width, utf8.RuneCountInString(stepName(s)))
	}
	return p
}

func (p *logPrinter) line(text []byte) error {
	var c api.LogChunk
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	name := stepName(api.Step{ID: c.Step, Phase: c.Phase})
	if c.Attempt > 1 {
		name += fmt.Sprintf("#%d", c.Attempt)
	}
	if _, known := p.rest[name]; !known {
		p.order = append(p.order, name)
	}
	var errs []error
	if c.Omitted > 0 {
		errs = append(errs, p.flush(name), p.print(name, p.paint(dim, fmt.Sprintf("… %d bytes left out", c.Omitted))))
	}
	whole := p.rest[name] + c.Text
	for line := range strings.Lines(whole) {
		if !strings.HasSuffix(line, "\n") {
			whole = line
			break
		}
		errs = append(errs, p.print(name, harmless(line, p.colors)))
		whole = ""
	}
	p.rest[name] = whole
	return errors.Join(errs...)
}

// flush prints what is there of a line that is not whole.
func (p *logPrinter) flush(name string) error {
	rest := p.rest[name]
	p.rest[name] = ""
	if rest == "" {
		return nil
	}
	return p.print(name, harmless(rest, p.colors))
}

// end prints the last lines of steps that did not end theirs.
func (p *logPrinter) end() {
	for _, name := range p.order {
		_ = p.flush(name) // whoever reads went away
	}
}

func (p *logPrinter) print(name, line string) error {
	if !p.name {
		_, err := fmt.Fprintln(p.w, line)
		return err
	}
	padding := strings.Repeat(" ", max(p.width-utf8.RuneCountInString(name), 0))
	_, err := fmt.Fprintf(p.w, "%s%s %s\n", name, padding, strings.TrimRight(p.paint(dim, "|")+" "+line, " "))
	return err
}
