package alertmanager

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	secret = "alertmanager-token"
	bearer = "auth: {bearer: {secret: the-secret}}"
	basic  = "auth: {basic: {username: am, password: {secret: the-secret}}}"
	body   = `{"version":"4","groupKey":"{}:{alertname=\"Down\"}","truncatedAlerts":2,"status":"firing","receiver":"riposte","big":123456789012345678901,
		"alerts":[
			{"status":"firing","labels":{"alertname":"Down","severity":"page","n":"1"},"annotations":{"summary":"it is down"},"startsAt":"2026-11-23T10:00:00.5Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/1","fingerprint":"aa"},
			{"status":"resolved","labels":{"alertname":"Down","n":"2"},"annotations":{},"startsAt":"2026-11-23T10:00:00Z","endsAt":"2026-11-23T11:00:00Z","fingerprint":"bb"}
		],"externalURL":"http://am"}`
)

func signBearer(r *source.Request, secret string) { r.Header.Set("Authorization", "Bearer "+secret) }

func signBasic(r *source.Request, secret string) {
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("am:"+secret)))
}

func conformance() sourcetest.Case {
	return sourcetest.Case{Name: "bearer", Spec: bearer, Secret: secret, Body: body, Sign: signBearer, Proof: "Authorization", Events: 2}
}

func TestConformance(t *testing.T) {
	withBasic := conformance()
	withBasic.Name, withBasic.Spec, withBasic.Sign = "basic", basic, signBasic
	empty := conformance()
	empty.Name, empty.Body, empty.Events = "no alerts", `{"alerts":[]}`, 0
	sourcetest.Run(t, Type(), []sourcetest.Case{conformance(), withBasic, empty})
}

func FuzzAlertmanager(f *testing.F) {
	sourcetest.Fuzz(f, Type(), conformance(), "alert.firing", "alert.resolved")
}

func TestSpec(t *testing.T) {
	for _, spec := range []string{
		"auth: {}", "auth: null",
		"auth: {bearer: {secret: the-secret}, basic: {username: u, password: {secret: the-secret}}}",
		"auth: {basic: {username: '', password: {secret: the-secret}}}",
		"auth: {basic: {username: 'a:b', password: {secret: the-secret}}}",
	} {
		if _, err := Type().New(sourcetest.Decode(spec), sourcetest.Env(map[string]string{"the-secret": secret})); err == nil {
			t.Errorf("%s is accepted", spec)
		}
	}
}

func split(t testing.TB, body string) []source.Delivery {
	t.Helper()
	out, err := (&alertmanager{}).Split(&source.Request{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSplit(t *testing.T) {
	out := split(t, body)
	if len(out) != 2 || out[0].Type != "alert.firing" || out[1].Type != "alert.resolved" || out[0].Subject != "Down" {
		t.Fatalf("got %+v", out)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &whole); err != nil {
		t.Fatal(err)
	}
	var alerts []json.RawMessage
	if err := json.Unmarshal(whole["alerts"], &alerts); err != nil {
		t.Fatal(err)
	}
	for i, d := range out {
		var got map[string]json.RawMessage
		if err := json.Unmarshal(d.Body, &got); err != nil {
			t.Fatalf("%s: %v", d.Body, err)
		}
		for name, raw := range whole {
			if name == "alerts" {
				raw = []byte("[" + string(alerts[i]) + "]")
			}
			if !bytes.Equal(got[name], raw) {
				t.Errorf("alert %d: %s is %s, not %s", i, name, got[name], raw)
			}
		}
		if len(got) != len(whole) {
			t.Errorf("alert %d has %d members, not %d", i, len(got), len(whole))
		}
	}
}

func TestEnvelope(t *testing.T) {
	tests := []struct{ body, want string }{
		{`{"alerts":[{"status":"firing"}]}`, `{"alerts":[{"status":"firing"}]}`},
		{`{"a":1, "alerts" : [ {"status":"firing"} ] , "b": [2]}`, `{"a":1,"alerts":[{"status":"firing"}],"b":[2]}`},
		{`{"alerts":[7],"a":1,"al\u0065rts":[{"status":"firing"}],"b":2}`, `{"a":1,"alerts":[{"status":"firing"}],"b":2}`},
		{`{"status":"firing","alerts":[{}]}`, `{"status":"firing","alerts":[{}]}`},
	}
	for _, tt := range tests {
		if out := split(t, tt.body); len(out) != 1 || string(out[0].Body) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.body, out[0].Body, tt.want)
		}
	}
}

func TestKey(t *testing.T) {
	of := func(group, print, status, starts string) string {
		return split(t, fmt.Sprintf(`{"groupKey":%q,"alerts":[{"status":%q,"startsAt":%q,"fingerprint":%q}]}`, group, status, starts, print))[0].Key
	}
	again := of("g", "f", "firing", "s")
	if again != of("g", "f", "firing", "s") {
		t.Error("the same alert sent again has another key")
	}
	for name, other := range map[string]string{
		"group": of("h", "f", "firing", "s"), "fingerprint": of("g", "e", "firing", "s"), "status": of("g", "f", "resolved", "s"), "start": of("g", "f", "firing", "t"),
		"division": of("g1", "", "firing", "s"),
	} {
		if other == again {
			t.Errorf("another %s has the same key", name)
		}
	}
	if of("a1:b", "c", "firing", "s") == of("a", "b1:c", "firing", "s") {
		t.Error("two ways of dividing a text have the same key")
	}
	later := split(t, `{"groupKey":"g","alerts":[{"status":"firing","startsAt":"s","endsAt":"x","fingerprint":"f","annotations":{"v":"2"}}]}`)[0].Key
	if later != again {
		t.Error("new annotations make another event")
	}
}

func TestFingerprint(t *testing.T) {
	const labelled = `{"alerts":[{"status":"firing","labels":{%s}}]}`
	key := func(labels string) string { return split(t, fmt.Sprintf(labelled, labels))[0].Key }
	if key(`"a":"1","b":"2"`) != key(`"b":"2","a":"1"`) {
		t.Error("the order of labels counts")
	}
	if key(`"a":"1"`) == key(`"a":"2"`) {
		t.Error("labels do not count")
	}
	e := sourcetest.Event(split(t, fmt.Sprintf(labelled, `"job":"node","alertname":"Down"`))[0])
	(&alertmanager{}).Normalise(e)
	if want := "952a6219e8df7701"; e.Alert.Fingerprint != want { // as Alertmanager makes it
		t.Errorf("got %s, want %s", e.Alert.Fingerprint, want)
	}
}

func TestUnparsable(t *testing.T) {
	for _, body := range []string{
		`[]`, `null`, `"x"`, `{}`, `{"alerts":null}`, `{"alerts":{}}`, `{"alerts":[1]}`, `{"alerts":[{}]}`, `{"alerts":[{"status":"odd"}]}`,
		`{"alerts":[{"status":"firing"},null]}`,
	} {
		if _, err := (&alertmanager{}).Split(&source.Request{Body: []byte(body)}); !errors.Is(err, source.ErrUnparsable) {
			t.Errorf("%s: got %v, want ErrUnparsable", body, err)
		}
	}
}

func TestNormalise(t *testing.T) {
	out := split(t, body)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		alert *event.Alert
		time  time.Time
	}{
		{&event.Alert{
			Name: "Down", Status: "firing", Severity: "page", Labels: map[string]string{"alertname": "Down", "severity": "page", "n": "1"},
			Annotations: map[string]string{"summary": "it is down"}, Fingerprint: "aa", StartsAt: at.Add(time.Second / 2), GeneratorURL: "http://p/1",
		}, at.Add(time.Second / 2)},
		{&event.Alert{
			Name: "Down", Status: "resolved", Labels: map[string]string{"alertname": "Down", "n": "2"},
			Annotations: map[string]string{}, Fingerprint: "bb", StartsAt: at, EndsAt: at.Add(time.Hour),
		}, at.Add(time.Hour)},
	}
	for i, tt := range tests {
		e := sourcetest.Event(out[i])
		(&alertmanager{}).Normalise(e)
		if !reflect.DeepEqual(e.Alert, tt.alert) || !e.Time.Equal(tt.time) || e.Subject != "Down" {
			t.Errorf("got  %+v at %v\nwant %+v at %v", e.Alert, e.Time, tt.alert, tt.time)
		}
		data, err := e.Data()
		if err != nil || data.(map[string]any)["truncatedAlerts"] != int64(2) || data.(map[string]any)["big"] != event.Integer("123456789012345678901") {
			t.Errorf("data is %v, %v", data, err)
		}
	}
}

func many(n, annotation int) string {
	var b strings.Builder
	b.WriteString(`{"version":"4","groupKey":"{}/{team=\"a\"}:{alertname=\"Down\"}","status":"firing","receiver":"riposte","groupLabels":{"alertname":"Down"},"commonLabels":{"alertname":"Down"},"commonAnnotations":{},"externalURL":"http://am","truncatedAlerts":0,"alerts":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"status":"firing","labels":{"alertname":"Down","instance":"host-%d:9100","job":"node","severity":"page"},"annotations":{"summary":"%s"},"startsAt":"2026-11-23T10:00:00.000Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus/graph?g0.expr=up","fingerprint":"%016x"}`,
			i, strings.Repeat("x", annotation), i)
	}
	b.WriteString(`]}`)
	return b.String()
}

func TestManyAlerts(t *testing.T) {
	body := []byte(many(5000, 40))
	a := &alertmanager{}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, err := a.Split(&source.Request{Body: body})
	runtime.ReadMemStats(&after)
	if err != nil || len(out) != 5000 {
		t.Fatalf("%d events, %v", len(out), err)
	}
	stored, keys := 0, map[string]bool{}
	for _, d := range out {
		stored += len(d.Body)
		keys[d.Key] = true
	}
	if len(keys) != 5000 {
		t.Errorf("%d keys of 5000 alerts", len(keys))
	}
	if used := int(after.TotalAlloc - before.TotalAlloc); used > 6*stored { // it grows with what is stored, and not with its square
		t.Errorf("splitting allocates %d bytes for %d that are stored", used, stored)
	}
}

func TestGrowthIsBounded(t *testing.T) {
	evil := `{"pad":"` + strings.Repeat("x", 1<<20) + `","alerts":[` + strings.TrimSuffix(strings.Repeat(`{"status":"firing"},`, 1<<16), ",") + `]}`
	_, err := (&alertmanager{}).Split(&source.Request{Body: []byte(evil)})
	if !errors.Is(err, source.ErrUnparsable) {
		t.Errorf("64 GiB of events: got %v", err)
	}
	split(t, many(20_000, 1000)) // 25 MB of real alerts pass
}

func BenchmarkSplit5000(b *testing.B) {
	r := &source.Request{Header: http.Header{}, Body: []byte(many(5000, 40))}
	a := &alertmanager{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Split(r); err != nil {
			b.Fatal(err)
		}
	}
}
