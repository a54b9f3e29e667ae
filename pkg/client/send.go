package client

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Delivery is a webhook request to be made as its sender would make it.
type Delivery struct {
	To     Endpoint // the hooks listener
	Source string   // name of the source
	Type   string   // preset to sign as: github, gitlab, gitea, alertmanager, standardwebhooks, generic
	Event  string   // the sender's word for the event: push
	ID     string   // delivery id; empty makes one
	Secret []byte
	Body   []byte
	Header http.Header // set beside, and over, those of the type
	Now    time.Time
}

// Receipt is the receiver's answer.
type Receipt struct {
	ID         string   `json:"id,omitempty"`
	IDs        []string `json:"ids,omitempty"`
	Duplicate  bool     `json:"duplicate,omitempty"`
	Duplicates []string `json:"duplicates,omitempty"`
	Retried    []string `json:"retried,omitempty"`
}

// Send signs the delivery and posts it.
func Send(ctx context.Context, d Delivery) (Receipt, error) {
	var receipt Receipt
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	base, h, err := d.To.open()
	if err != nil {
		return receipt, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/hooks/"+d.Source, bytes.NewReader(d.Body))
	if err != nil {
		return receipt, fmt.Errorf("send to source %s: %w", d.Source, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "riposte-send")
	if err := sign(req.Header, d); err != nil {
		return receipt, err
	}
	maps.Copy(req.Header, d.Header)
	resp, err := h.Do(req)
	if err != nil {
		return receipt, unreachable(base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return receipt, readError(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return receipt, fmt.Errorf("read the answer: %w", err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return receipt, nil
	}
	if err := json.Unmarshal(text, &receipt); err != nil {
		return receipt, fmt.Errorf("read the answer: %w", err)
	}
	return receipt, nil
}

// signers set the headers that each kind of sender sets.
func signers() map[string]func(http.Header, Delivery) error {
	return map[string]func(http.Header, Delivery) error{
		"github":           signGitHub,
		"gitea":            signGitea,
		"gitlab":           signGitLab,
		"alertmanager":     signBearer,
		"standardwebhooks": signStandard,
		"generic":          signGeneric,
	}
}

func sign(h http.Header, d Delivery) error {
	s := signers()[d.Type]
	if s == nil {
		return &Error{Msg: fmt.Sprintf("how a source of type %q is signed is not known here", d.Type), Hint: "known are " + strings.Join(slices.Sorted(maps.Keys(signers())), ", ")}
	}
	if examples := map[string]string{"github": "push", "gitea": "push"}; d.Event == "" && examples[d.Type] != "" {
		return &Error{Msg: fmt.Sprintf("a sender of type %s names each event, and --event is missing", d.Type), Hint: "--event " + examples[d.Type]}
	}
	return s(h, d)
}

func hexHMAC(d Delivery) string { return hex.EncodeToString(mac(d.Secret, d.Body)) }

func mac(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(text)
	return m.Sum(nil)
}

func signGitHub(h http.Header, d Delivery) error {
	h.Set("X-GitHub-Event", d.Event)
	h.Set("X-GitHub-Delivery", d.ID)
	h.Set("X-Hub-Signature-256", "sha256="+hexHMAC(d))
	return nil
}

func signGitea(h http.Header, d Delivery) error {
	h.Set("X-Gitea-Event", d.Event)
	h.Set("X-Gitea-Delivery", d.ID)
	h.Set("X-Gitea-Signature", hexHMAC(d))
	return nil
}

func signGitLab(h http.Header, d Delivery) error {
	h.Set("X-Gitlab-Event", d.Event)
	h.Set("Idempotency-Key", d.ID)
	h.Set("X-Gitlab-Token", string(d.Secret))
	return nil
}

func signBearer(h http.Header, d Delivery) error {
	h.Set("Authorization", "Bearer "+string(d.Secret))
	return nil
}

func signGeneric(h http.Header, d Delivery) error {
	h.Set("X-Request-Id", d.ID)
	if len(d.Secret) > 0 {
		h.Set("X-Signature", "sha256="+hexHMAC(d))
	}
	return nil
}

// Signs reports whether a sender of the type always proves who it is. A generic one may have another proof, or none.
func Signs(kind string) bool { return kind != "generic" }

func signStandard(h http.Header, d Delivery) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(d.Secret), "whsec_"))
	if err != nil {
		return &Error{Msg: "the secret is not whsec_ and base64, as Standard Webhooks wants it", Hint: "take it as the sender shows it", Err: err}
	}
	stamp := strconv.FormatInt(d.Now.Unix(), 10)
	h.Set("webhook-id", d.ID)
	h.Set("webhook-timestamp", stamp)
	signed := append([]byte(d.ID+"."+stamp+"."), d.Body...)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac(key, signed)))
	return nil
}
