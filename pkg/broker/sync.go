package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// jszInfo is what matters of a server's answer about its JetStream. Source: nats-server v2.15.2, JSInfo.
type jszInfo struct {
	Disabled bool `json:"disabled"`
	Config   struct {
		SyncAlways bool `json:"sync_always"`
	} `json:"config"`
}

// syncAnswer is that of a server of a known name.
type syncAnswer struct {
	server string
	jszInfo
}

// syncWait is how long further servers have to answer after one did; the request has no end of its own.
const syncWait = 500 * time.Millisecond

// checkSync asks the servers whether they sync each write to the disk before they acknowledge it, and refuses them where one is
// known not to. Only the system account and the monitoring tell; what is not known is said.
func (b *Broker) checkSync(ctx context.Context) error {
	const advice = "set sync_interval: always in the jetstream section of its configuration"
	answers := append(b.askSync(ctx), b.askMonitoring(ctx)...)
	if len(answers) == 0 {
		b.opts.Logger.Warn("not verified: whether the NATS servers sync each write to the disk; only their monitoring, or an account with access to the system account's requests, can tell", "hint", advice)
	}
	for _, a := range answers {
		switch {
		case a.Disabled:
		case a.Config.SyncAlways:
			b.opts.Logger.Info("the NATS server syncs each write to the disk", "server", a.server)
		case b.opts.AllowLazySync:
			b.opts.Logger.Error("the NATS server does not sync each write to the disk: accepted events can be lost when its machine fails", "server", a.server, "hint", advice)
		default:
			return fmt.Errorf("NATS server %s does not sync each write to the disk, so that accepted events could be lost when its machine fails: %s, or accept that with --nats-allow-lazy-sync", a.server, advice)
		}
	}
	return nil
}

// askSync returns what the servers answer, nothing where this account may not ask.
func (b *Broker) askSync(ctx context.Context) []syncAnswer {
	conn := b.Conn()
	inbox := conn.NewRespInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := conn.PublishRequest(jszSubject, inbox, nil); err != nil {
		return nil
	}
	var answers []syncAnswer
	for {
		wait, cancel := context.WithTimeout(ctx, syncWait)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil || len(msg.Data) == 0 { // nobody answers, or nobody more
			return answers
		}
		var a struct { // ServerAPIResponse
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data *jszInfo `json:"data"`
		}
		if json.Unmarshal(msg.Data, &a) == nil && a.Data != nil {
			answers = append(answers, syncAnswer{a.Server.Name, *a.Data})
		}
	}
}

// askMonitoring asks each server whose monitoring is given. One that does not answer is told of: it may be down for now.
func (b *Broker) askMonitoring(ctx context.Context) []syncAnswer {
	var answers []syncAnswer
	for _, address := range b.opts.Monitoring {
		info, err := jsz(ctx, address)
		if err != nil {
			b.opts.Logger.Warn("not verified: whether the NATS server syncs each write to the disk; its monitoring can't be asked", "monitoring", redactURL(address), "error", err)
			continue
		}
		answers = append(answers, syncAnswer{redactURL(address), info})
	}
	return answers
}

// maxJsz bounds an answer of the monitoring.
const maxJsz = 1 << 20

func jsz(ctx context.Context, address string) (jszInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/jsz", nil)
	if err != nil {
		return jszInfo{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return jszInfo{}, withoutAddress(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return jszInfo{}, fmt.Errorf("it answers %s", resp.Status)
	}
	var info jszInfo
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxJsz)).Decode(&info); err != nil {
		return jszInfo{}, fmt.Errorf("its answer can't be read: %w", err)
	}
	return info, nil
}

// withoutAddress takes the address out of an error, which may hold a password.
func withoutAddress(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // what Do returns is one
		return u.Err
	}
	return err
}
