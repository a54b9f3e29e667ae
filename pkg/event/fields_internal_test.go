package event

import (
	"reflect"
	"testing"
	"time"
)

// TestFieldsThatAreReadOftenAreThoseOfTheList: what Field answers by itself must not differ from what is listed.
func TestFieldsThatAreReadOftenAreThoseOfTheList(t *testing.T) {
	type view interface {
		Field(string) (any, bool)
		fields() []field
	}
	full := &Git{Repo: "r", Owner: "o", CloneURL: "u", Ref: "refs/heads/b", Branch: "b", Tag: "t", Commit: "c", Before: "p", Forced: true, Deleted: true, Pusher: "x", Paths: []string{"a"}}
	for _, v := range []view{
		&Git{}, full, &PullRequest{}, &PullRequest{Number: 1, Base: "b"}, &Alert{},
		&Alert{Name: "n", Status: "firing", Severity: "s", Labels: map[string]string{"a": "b"}, StartsAt: time.Unix(1, 0)},
	} {
		for _, f := range v.fields() {
			want, there := lookUp(v.fields(), f.name)
			got, ok := v.Field(f.name)
			if ok != there || ok && !reflect.DeepEqual(got, want) {
				t.Errorf("%T.%s is %v %t, and listed as %v %t", v, f.name, got, ok, want, there)
			}
		}
	}
}
