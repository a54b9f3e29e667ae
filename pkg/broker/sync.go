package broker

import (
	"context"
	"encoding/json"
	"time"
)

// syncAnswer is what matters of a server's answer about its JetStream. Source: nats-server v2.15.2, ServerAPIResponse and JSInfo.
type syncAnswer struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data *struct {
		Disabled bool `json:"disabled"`
		Config   struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"data"`
}

// syncWait is how long further servers have to answer after one did; the request has no end of its own.
const syncWait = 500 * time.Millisecond

// checkSync says whether the servers sync each write to the disk before they acknowledge it. Only the system account may ask;
// elsewhere nobody answers, and what is not known is said.
func (b *Broker) checkSync(ctx context.Context) {
	const advice = "set sync_interval: always in the jetstream section of its configuration"
	answers := b.askSync(ctx)
	if len(answers) == 0 {
		b.opts.Logger.Warn("not verified: whether the NATS servers sync each write to the disk; only an account with access to the system account's requests can ask", "hint", advice)
	}
	for _, a := range answers {
		switch {
		case a.Data == nil || a.Data.Disabled:
		case a.Data.Config.SyncAlways:
			b.opts.Logger.Info("the NATS server syncs each write to the disk", "server", a.Server.Name)
		default:
			b.opts.Logger.Error("the NATS server does not sync each write to the disk: accepted events can be lost when its machine fails", "server", a.Server.Name, "hint", advice)
		}
	}
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
		var a syncAnswer
		if json.Unmarshal(msg.Data, &a) == nil && a.Data != nil {
			answers = append(answers, a)
		}
	}
}
