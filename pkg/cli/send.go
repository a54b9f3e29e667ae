package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
)

// sendFlags hold what riposte send is told.
type sendFlags struct {
	remote
	event, file, kind, id, hooks, secretFile string
	header                                   []string
}

func newSend() *cobra.Command {
	var s sendFlags
	cmd := &cobra.Command{
		Use: "send SOURCE -f FILE", Short: "Sign an event as its sender would, and post it", Args: arguments("SOURCE"), ValidArgsFunction: s.names("sources", "name"),
		Long:    "Send posts a payload to a source of a server, signed with the source's secret. Of a server on this machine that runs with --dev it finds address, type and secret by itself. A generic source gets X-Signature: sha256=HEX and X-Request-Id; --header adds what another one wants.",
		Example: "  riposte send github --event push -f push.json\n  riposte send alertmanager -f alerts.json\n  riposte send doorbell -f - -H 'Authorization: Basic …' < ring.json",
		RunE:    func(cmd *cobra.Command, args []string) error { return s.run(cmd, args[0]) },
	}
	s.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&s.event, "event", "", "the sender's word for the event: push")
	f.StringVarP(&s.file, "file", "f", "", "payload; - for standard input")
	f.StringVar(&s.kind, "type", "", "type of the source; default: asked of the server")
	f.StringVar(&s.id, "id", "", "delivery id; default: a random one")
	f.StringVar(&s.hooks, "hooks", "", "address of the hooks listener; default: that of the server that uses --data")
	f.StringArrayVarP(&s.header, "header", "H", nil, "request header, as in 'Name: value', beside or over those of the type; can be repeated")
	f.StringVar(&s.secretFile, "secret-file", "", "file with the secret; default: RIPOSTE_WEBHOOK_SECRET, then the development secret in --data")
	return cmd
}

func (s *sendFlags) run(cmd *cobra.Command, source string) error {
	if err := errors.Join(checkOutput(cmd, s.output), fileGiven(cmd, s.file)); err != nil {
		return err
	}
	d, err := s.delivery(cmd, source)
	if err != nil {
		return err
	}
	receipt, err := client.Send(cmd.Context(), d)
	if err != nil {
		return err
	}
	return s.show(cmd.OutOrStdout(), receipt, func(w io.Writer) { printReceipt(w, receipt) })
}

// fileGiven says that --file is missing.
func fileGiven(cmd *cobra.Command, file string) error {
	if file == "" {
		return usage(cmd, "--file is missing")
	}
	return nil
}

// headers reads --header.
func headers(cmd *cobra.Command, lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usage(cmd, "--header %q is not a name, a colon and a value", line)
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

func (s *sendFlags) delivery(cmd *cobra.Command, source string) (client.Delivery, error) {
	d := client.Delivery{To: client.Endpoint{URL: s.hooks, CAFile: s.caFile}, Source: source, Type: s.kind, Event: s.event, ID: s.id, Now: time.Now()}
	var err error
	if d.Header, err = headers(cmd, s.header); err != nil {
		return d, err
	}
	if d.Body, err = readPayload(cmd.InOrStdin(), s.file); err != nil {
		return d, fmt.Errorf("read the payload: %w", err)
	}
	if s.hooks == "" {
		l, err := client.ReadListen(s.data)
		if err != nil {
			return d, err
		}
		d.To = l.HooksEndpoint()
		d.To.CAFile = s.caFile
	}
	if d.Type == "" {
		if d.Type, err = s.typeOf(cmd, source); err != nil {
			return d, err
		}
	}
	if d.Secret, err = s.secret(); err != nil && client.Signs(d.Type) {
		return d, err
	}
	if d.ID == "" {
		b := make([]byte, 16)
		rand.Read(b) // never fails since Go 1.24
		d.ID = hex.EncodeToString(b)
	}
	return d, nil
}

func readPayload(stdin io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

func (s *sendFlags) secret() ([]byte, error) {
	name := s.secretFile
	if name == "" {
		if v := os.Getenv("RIPOSTE_WEBHOOK_SECRET"); v != "" {
			return []byte(v), nil
		}
		name = filepath.Join(s.data, app.DevSecretFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, &client.Error{Msg: fmt.Sprintf("no secret to sign with: %v", err), Hint: "give one with --secret-file or RIPOSTE_WEBHOOK_SECRET; only a server that runs with --dev makes one", Err: err}
	}
	return bytes.TrimSpace(text), nil
}

// typeOf asks the server which preset receives for the source.
func (s *sendFlags) typeOf(cmd *cobra.Command, source string) (string, error) {
	page, err := s.sources(cmd)
	if err != nil {
		return "", &failure{exitFailed, fmt.Errorf("ask for the type of source %s: %w", source, err), "--type gives it", false}
	}
	var names []string
	for _, it := range page.Items {
		if it.Name == source {
			return it.Type, nil
		}
		names = append(names, it.Name)
	}
	return "", &client.Error{Msg: fmt.Sprintf("the server has no source %q", source), Hint: nearest(source, names, "it has "+strings.Join(names, ", "))}
}

func printReceipt(w io.Writer, r client.Receipt) {
	ids := r.IDs
	if r.ID != "" {
		ids = []string{r.ID}
	}
	for _, id := range ids {
		if r.Duplicate || slices.Contains(r.Duplicates, id) {
			fmt.Fprintf(w, "duplicate %s: it was accepted before, and nothing new is decided; riposte events replay %s decides it again\n", id, id)
			continue
		}
		fmt.Fprintln(w, "accepted", id)
	}
	if len(ids) == 0 {
		fmt.Fprintln(w, "answered without an event")
	}
	for _, id := range r.Retried {
		fmt.Fprintln(w, "its failed run goes on:", id)
	}
}
