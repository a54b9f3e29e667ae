package notify

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	shoutsmtp "github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"

	"github.com/riposte-dev/riposte/pkg/action"
)

// mailTimeout bounds a whole conversation with a mail server.
const mailTimeout = 30 * time.Second

// mail sends by SMTP: over TLS from the start on port 465 or where the address says so, else with STARTTLS where the server
// has it. shoutrrr reads the address; the conversation is ours, since its own dials by itself, unchecked, and writes the
// subject into the headers as it is.
func (s *Sender) mail(ctx context.Context, secret string, m message) error {
	c, err := mailConfig(secret)
	if err != nil {
		return unsuitable(typeSMTP)
	}
	if c.SkipTLSVerify {
		return action.Permanent(errors.New("its url secret has skiptlsverify, which is not supported: give the server's authority in SSL_CERT_FILE"))
	}
	from, to, err := addresses(c)
	if err != nil {
		return action.Permanent(errors.New("its url secret has a from or to that is no mail address"))
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	raw, err := s.opts.Client.DialContext(ctx, "tcp", net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
	if err != nil {
		return unreachable(ctx, err)
	}
	defer func() { _ = raw.Close() }() // it may be closed already
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := raw
	tlsConfig := s.opts.Client.TLSConfig(c.Host)
	if c.Encryption == shoutsmtp.EncMethods.ImplicitTLS || c.Encryption == shoutsmtp.EncMethods.Auto && c.Port == shoutsmtp.ImplicitTLSPort {
		conn = tls.Client(conn, tlsConfig)
	}
	if err := converse(conn, c, tlsConfig, envelope{from, to, compose(from, to, m)}); err != nil {
		return mailError(ctx, err)
	}
	return nil
}

// mailConfig reads an address with the defaults of shoutrrr's service. Its error may hold the secret.
func mailConfig(secret string) (*shoutsmtp.Config, error) {
	u, err := parse(typeSMTP, secret)
	if err != nil {
		return nil, err
	}
	c := &shoutsmtp.Config{
		Port: shoutsmtp.DefaultSMTPPort, UseStartTLS: true, ClientHost: "localhost",
		Auth: shoutsmtp.AuthTypes.Unknown, Encryption: shoutsmtp.EncMethods.Auto,
	}
	if err := c.SetURL(u); err != nil {
		return nil, err
	}
	c.FixEmailTags()
	if c.Auth == shoutsmtp.AuthTypes.Unknown {
		c.Auth = shoutsmtp.AuthTypes.None
		if c.Username != "" {
			c.Auth = shoutsmtp.AuthTypes.Plain
		}
	}
	return c, nil
}

func addresses(c *shoutsmtp.Config) (from *mail.Address, to []*mail.Address, err error) {
	if from, err = mail.ParseAddress(c.FromAddress); err != nil {
		return nil, nil, err
	}
	if c.FromName != "" {
		from.Name = c.FromName
	}
	for _, text := range c.ToAddresses {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return nil, nil, err
		}
		to = append(to, a)
	}
	return from, to, nil
}

type envelope struct {
	from *mail.Address
	to   []*mail.Address
	text []byte
}

// errPlain says that a password would go over an open line.
var errPlain = errors.New("the mail server has no STARTTLS, and neither a password nor a message that needs TLS is sent without")

func converse(conn net.Conn, c *shoutsmtp.Config, tlsConfig *tls.Config, e envelope) error {
	client, err := smtp.NewClient(conn, c.Host)
	if err != nil {
		return err
	}
	if err := client.Hello(hello(c)); err != nil {
		return err
	}
	_, secure := conn.(*tls.Conn)
	if !secure && c.UseStartTLS && c.Encryption != shoutsmtp.EncMethods.None {
		if secure, _ = client.Extension("STARTTLS"); secure {
			if err := client.StartTLS(tlsConfig); err != nil {
				return err
			}
		}
	}
	if !secure && (c.RequireStartTLS || c.Encryption == shoutsmtp.EncMethods.ExplicitTLS) {
		return errPlain
	}
	if auth := authOf(c); auth != nil {
		if !secure {
			return errPlain
		}
		if err := client.Auth(auth); err != nil {
			return err
		}
	}
	return deliver(client, e)
}

func hello(c *shoutsmtp.Config) string {
	if c.ClientHost == "" || c.ClientHost == "auto" {
		return "localhost"
	}
	return c.ClientHost
}

func authOf(c *shoutsmtp.Config) smtp.Auth {
	switch c.Auth {
	case shoutsmtp.AuthTypes.Plain:
		return smtp.PlainAuth("", c.Username, c.Password, c.Host)
	case shoutsmtp.AuthTypes.CRAMMD5:
		return smtp.CRAMMD5Auth(c.Username, c.Password)
	case shoutsmtp.AuthTypes.OAuth2:
		return shoutsmtp.OAuth2Auth(c.Username, c.Password)
	}
	return nil
}

func deliver(client *smtp.Client, e envelope) error {
	if err := client.Mail(e.from.Address); err != nil {
		return err
	}
	for _, a := range e.to {
		if err := client.Rcpt(a.Address); err != nil {
			return err
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(e.text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // the message is taken; some servers just hang up
	return nil
}

// compose writes a message. Nothing of an event can add a header or end the message: the subject is encoded (RFC 2047) and so
// is the text (quoted-printable), whose dots net/smtp doubles.
func compose(from *mail.Address, to []*mail.Address, m message) []byte {
	subject := m.title
	if subject == "" {
		subject, _, _ = strings.Cut(m.text, "\n")
	}
	list := make([]string, len(to))
	for i, a := range to {
		list[i] = a.String()
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", from.String()}, {"To", strings.Join(list, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", cut(oneLine(subject), 200))},
		{"Date", time.Now().Format(time.RFC1123Z)}, {"Message-ID", "<" + rand.Text() + "@" + domain + ">"}, {"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(m.text, "\n", "\r\n"))) // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}

// mailError tells the server's answer by its code alone: its text may repeat the address or the name.
func mailError(ctx context.Context, err error) error {
	var answer *textproto.Error
	switch {
	case ctx.Err() != nil:
		return unreachable(ctx, err)
	case errors.As(err, &answer) && answer.Code >= 500:
		return action.Permanent(fmt.Errorf("the mail server answered %d", answer.Code))
	case errors.As(err, &answer):
		return fmt.Errorf("the mail server answered %d", answer.Code)
	case errors.Is(err, errPlain):
		return action.Permanent(err)
	}
	return unreachable(ctx, err)
}
