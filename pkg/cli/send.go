package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
}

func newSend() *cobra.Command {
	var s sendFlags
	cmd := &cobra.Command{
		Use: "send SOURCE -f FILE", Short: "Sign an event as its sender would, and post it", Args: cobra.ExactArgs(1),
		Long: "Send posts a payload to a source of a server, signed with the source's secret. Of a server on this machine that runs with --dev it finds address, type and secret by itself.",
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd, args[0]) },
	}
	s.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&s.event, "event", "", "the sender's word for the event: push")
	f.StringVarP(&s.file, "file", "f", "", "payload; - for standard input")
	f.StringVar(&s.kind, "type", "", "type of the source; default: asked of the server")
	f.StringVar(&s.id, "id", "", "delivery id; default: a random one")
	f.StringVar(&s.hooks, "hooks", "", "address of the hooks listener; default: that of the server that uses --data")
	f.StringVar(&s.secretFile, "secret-file", "", "file with the secret; default: RIPOSTE_WEBHOOK_SECRET, then the development secret in --data")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that does not exist
	return cmd
}

func (s *sendFlags) run(cmd *cobra.Command, source string) error {
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

func (s *sendFlags) delivery(cmd *cobra.Command, source string) (client.Delivery, error) {
	d := client.Delivery{Address: s.hooks, Source: source, Type: s.kind, Event: s.event, ID: s.id, Now: time.Now()}
	var err error
	if d.Body, err = readPayload(cmd.InOrStdin(), s.file); err != nil {
		return d, err
	}
	if d.Secret, err = s.secret(); err != nil {
		return d, err
	}
	if d.Address == "" {
		l, err := client.ReadListen(s.data)
		if err != nil {
			return d, err
		}
		d.Address = l.Hooks
	}
	if !strings.Contains(d.Address, "://") {
		d.Address = "http://" + d.Address
	}
	if d.Type == "" {
		if d.Type, err = s.typeOf(cmd, source); err != nil {
			return d, err
		}
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
		return nil, fmt.Errorf("no secret to sign with: %w (give one with --secret-file or RIPOSTE_WEBHOOK_SECRET)", err)
	}
	return bytes.TrimSpace(text), nil
}

// typeOf asks the server which preset receives for the source.
func (s *sendFlags) typeOf(cmd *cobra.Command, source string) (string, error) {
	page, err := s.sources(cmd)
	if err != nil {
		return "", fmt.Errorf("the type of source %s could not be asked for (--type gives it): %w", source, err)
	}
	var names []string
	for _, it := range page.Items {
		if it.Name == source {
			return it.Type, nil
		}
		names = append(names, it.Name)
	}
	return "", fmt.Errorf("the server has no source %q; it has %s", source, strings.Join(names, ", "))
}

func printReceipt(w io.Writer, r client.Receipt) {
	ids := r.IDs
	if r.ID != "" {
		ids = []string{r.ID}
	}
	for _, id := range ids {
		fmt.Fprintln(w, "accepted", id)
	}
	if len(ids) == 0 {
		fmt.Fprintln(w, "answered without an event")
	}
	if r.Duplicate || len(r.Duplicates) > 0 {
		fmt.Fprintln(w, "known before, so nothing new is decided; riposte events replay", strings.Join(append(r.Duplicates, r.ID), " "), "decides it again")
	}
	for _, id := range r.Retried {
		fmt.Fprintln(w, "its failed run goes on:", id)
	}
}
