package notify

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// services lists the types that shoutrrr sends to, through our client. Those of its services that can only dial by
// themselves (bark, ifttt, join, lark, matrix, notifiarr, opsgenie, pushbullet, signal, wecom, zulip in v0.13.2) are no types: nothing would
// check the addresses that they dial, and no context would stop them.
func services() []string { return []string{"gotify", "mattermost", "ntfy", "pushover", "rocketchat"} }

// connect makes the service of the address with the client. Its error may hold the secret.
func connect(typ string, u *url.URL, client *http.Client) (types.Service, error) {
	switch typ {
	case "gotify":
		s := &gotify.Service{}
		err := s.Initialize(u, nil)
		if own := s.GetHTTPClient(); err == nil && own != nil {
			*own = *client
			return s, nil
		}
		return nil, errors.Join(err, errForm)
	case "mattermost":
		s := &mattermost.Service{}
		err := s.Initialize(u, nil)
		if own := s.GetHTTPClient(); err == nil && own != nil {
			*own = *client
			return s, nil
		}
		return nil, errors.Join(err, errForm)
	case "ntfy":
		s := &ntfy.Service{}
		err := s.Initialize(u, nil)
		s.SetHTTPClient(client)
		return s, err
	case "pushover":
		s := &pushover.Service{}
		err := s.Initialize(u, nil)
		s.Client = client
		return s, err
	case "rocketchat":
		s := &rocketchat.Service{Client: client}
		return s, s.Initialize(u, nil)
	}
	return nil, errForm
}

// service sends through shoutrrr. Its errors quote addresses, so what went wrong is told by the transport instead.
func (s *Sender) service(ctx context.Context, typ, secret string, m message) error {
	if (typ == "mattermost" || typ == "rocketchat") && isHTTP(secret) { // an incoming webhook takes what Slack's does
		_, err := s.post(ctx, request{url: secret, body: map[string]any{"text": cut(joined(m), 12_000)}})
		return err
	}
	u, err := parse(typ, secret)
	if err != nil {
		return unsuitable(typ)
	}
	ours := s.opts.Client.HTTPClient()
	sent := &observed{ctx: ctx, next: ours.Transport}
	svc, err := connect(typ, u, &http.Client{Transport: sent, CheckRedirect: noRedirects, Timeout: ours.Timeout})
	if err != nil {
		return unsuitable(typ)
	}
	text, params := cut(joined(m), 12_000), types.Params{}
	if slices.Contains([]string{"gotify", "ntfy", "pushover"}, typ) && m.title != "" {
		text = cut(m.text, 3000) // ntfy makes attachments of more than 4096 bytes (docs.ntfy.sh)
		params.SetTitle(cut(m.title, 250))
	}
	err = svc.Send(text, &params)
	switch {
	case sent.err != nil:
		return unreachable(ctx, sent.err)
	case sent.status == 0:
		return unsuitable(typ)
	case judge(sent.status) != nil:
		return judge(sent.status)
	case err != nil:
		return errors.New("did not take the message: its answer is not what the service should give")
	}
	return nil
}

// observed is the transport of one Send: it brings the context in, which shoutrrr knows nothing of, and keeps what the last
// request came to.
type observed struct {
	ctx    context.Context
	next   http.RoundTripper
	status int
	err    error
}

func (o *observed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(req.WithContext(o.ctx))
	o.status, o.err = 0, err
	if err == nil {
		o.status = resp.StatusCode
	}
	return resp, err
}

// setDefaults gives a configuration the values that its tags say.
func setDefaults(c types.ServiceConfig) error {
	resolver := format.NewPropKeyResolver(c)
	return resolver.SetDefaultProps(c)
}

func hostPort(host string, port uint16) string {
	if port == 443 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
