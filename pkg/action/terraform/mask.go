package terraform

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

const (
	masked = "***"
	// minSecret is the shortest text that is masked: replacing shorter ones would ruin texts and hide nothing.
	minSecret = 4
)

// masker replaces secrets in texts. terraform hides what it marks as sensitive by itself, but not everywhere: the error
// of a failed local-exec quotes its command (seen with 1.11). A masker is immutable.
type masker struct {
	secrets []string // longest first
}

func newMasker(secrets ...string) masker {
	var all []string
	for _, s := range secrets {
		for line := range strings.Lines(s) { // texts are masked line by line
			if line = strings.TrimSpace(line); len(line) >= minSecret {
				all = append(all, line)
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return masker{slices.Compact(all)}
}

func (m masker) with(secrets ...string) masker {
	return newMasker(append(slices.Clone(m.secrets), secrets...)...)
}

func (m masker) text(s string) string {
	for _, secret := range m.secrets {
		s = strings.ReplaceAll(s, secret, masked)
	}
	return s
}

// planSecrets collects every value that a plan marks as sensitive.
func planSecrets(p *tfjson.Plan) []string {
	var found []string
	if p.Config != nil && p.Config.RootModule != nil {
		for name, v := range p.Config.RootModule.Variables {
			if given := p.Variables[name]; v.Sensitive && given != nil {
				found = leaves(found, given.Value)
			}
		}
	}
	for _, list := range [][]*tfjson.ResourceChange{p.ResourceChanges, p.ResourceDrift} {
		for _, rc := range list {
			found = changeSecrets(found, rc.Change)
		}
	}
	for _, c := range p.OutputChanges {
		found = changeSecrets(found, c)
	}
	return found
}

func changeSecrets(found []string, c *tfjson.Change) []string {
	if c == nil {
		return found
	}
	found = marked(found, c.Before, c.BeforeSensitive)
	return marked(found, c.After, c.AfterSensitive)
}

// marked collects the leaves of value that marks, a tree of the same shape with true where something is sensitive, names.
func marked(found []string, value, marks any) []string {
	switch m := marks.(type) {
	case bool:
		if m {
			return leaves(found, value)
		}
	case map[string]any:
		if v, ok := value.(map[string]any); ok {
			for k, mark := range m {
				found = marked(found, v[k], mark)
			}
		}
	case []any:
		if v, ok := value.([]any); ok {
			for i, mark := range m[:min(len(m), len(v))] {
				found = marked(found, v[i], mark)
			}
		}
	}
	return found
}

// leaves collects the texts and numbers of a JSON value.
func leaves(found []string, value any) []string {
	switch v := value.(type) {
	case string:
		found = append(found, v)
	case map[string]any:
		for _, e := range v {
			found = leaves(found, e)
		}
	case []any:
		for _, e := range v {
			found = leaves(found, e)
		}
	case json.Number:
		found = append(found, v.String())
	case float64, int64, int:
		if b, err := json.Marshal(v); err == nil {
			found = append(found, string(b))
		}
	}
	return found
}

var (
	variableBlock = regexp.MustCompile(`(?m)^[ \t]*variable[ \t]+"([^"]+)"[ \t]*\{`)
	sensitiveTrue = regexp.MustCompile(`\bsensitive\s*=\s*true\b`)
)

// declaredSecrets collects the given values of variables that the root module declares as sensitive, for a plan that
// failed before terraform could say so. It reads the text roughly, and rather finds too many than too few.
func declaredSecrets(dir string, vars map[string]any) []string {
	var found []string
	files, _ := filepath.Glob(filepath.Join(dir, "*.t*f*"))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		at := variableBlock.FindAllSubmatchIndex(text, -1)
		for i, m := range at {
			end := len(text)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			if sensitiveTrue.Match(text[m[1]:end]) {
				found = leaves(found, vars[string(text[m[2]:m[3]])])
			}
		}
	}
	return found
}
