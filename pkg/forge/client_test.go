package forge

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestTheAccountIsAskedForOncePerToken(t *testing.T) {
	token, asked := "one", 0
	o := Options{Web: "https://git.example", HTTP: &http.Client{}, Token: func() (string, error) { return token, nil }}
	ask := func(context.Context) (string, error) { asked++; return "bot-" + token, nil }
	c, err := NewClient(o, "https://git.example/api", func(t string) string { return t })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if name, err := c.Self(t.Context(), ask); err != nil || name != "bot-one" || asked != 1 {
			t.Errorf("%s, %v, asked %d times", name, err, asked)
		}
	}
	token = "two"
	if name, err := c.Self(t.Context(), ask); err != nil || name != "bot-two" {
		t.Errorf("after the token changed: %s, %v", name, err)
	}
	token = "three"
	for _, fails := range []func(context.Context) (string, error){
		func(context.Context) (string, error) { return "", nil },
		func(context.Context) (string, error) { return "", errors.New("403") },
	} {
		if name, err := c.Self(t.Context(), fails); err == nil || name != "" || !strings.Contains(err.Error(), "account") {
			t.Errorf("an unknown account is %q, %v", name, err)
		}
	}
	o.Account = "set"
	if c, err = NewClient(o, "https://git.example/api", nil); err != nil {
		t.Fatal(err)
	}
	if name, err := c.Self(t.Context(), nil); err != nil || name != "set" {
		t.Errorf("%s, %v", name, err)
	}
}

func TestOwnerName(t *testing.T) {
	for repo, ok := range map[string]bool{"acme/shop": true, "a.b/c_d-e": true, "acme": false, "a/b/c": false, "../x": false, "a/..": false, "a/b?c": false, "a/b%2f": false, "/": false, "": false} {
		if _, _, err := OwnerName(repo); (err == nil) != ok {
			t.Errorf("%q: %v", repo, err)
		}
	}
}
