package lint

import (
	"fmt"

	"github.com/riposte-dev/riposte/pkg/document"
)

func duplicateSecret() Check {
	return Check{
		ID:  "duplicate-secret",
		Doc: "a secret that stands twice in one list",
		Why: "A list of secrets is for rotation: the old one and the new one. The same one twice is a slip, and the one that was meant is missing.",
		run: func(p *pass) {
			for _, s := range p.senders {
				p.duplicateSecrets(s, s.doc.Spec)
			}
		},
	}
}

func (p *pass) duplicateSecrets(s *sender, i *document.Item) {
	if i == nil {
		return
	}
	seen := map[string]bool{}
	for _, e := range i.Elements {
		if name := secretOf(e); name != "" {
			if seen[name] {
				p.warn(s.doc, e, "name the other one, or leave it out", "%s stands in this list already", name)
			}
			seen[name] = true
		}
	}
	for _, m := range i.Members {
		p.duplicateSecrets(s, m.Item)
	}
}

// secretOf names what {secret: NAME} or {env: NAME} refers to.
func secretOf(i *document.Item) string {
	if i == nil || len(i.Members) != 1 {
		return ""
	}
	m := i.Members[0]
	if value, ok := m.Item.Any().(string); ok && (m.Name == "secret" || m.Name == "env") {
		return fmt.Sprintf("%s %s", m.Name, value)
	}
	return ""
}

func sharedSecret() Check {
	return Check{
		ID:  "shared-secret",
		Doc: "a secret that two sources share",
		Why: "Who may send to one of them can send to the other: a request that was signed for one is right for both. Give each source a secret of its own.",
		run: func(p *pass) {
			owner := map[string]string{}
			for _, s := range p.senders {
				p.sharedSecrets(s, s.doc.Spec, owner)
			}
		},
	}
}

func (p *pass) sharedSecrets(s *sender, i *document.Item, owner map[string]string) {
	if i == nil {
		return
	}
	if name := secretOf(i); name != "" {
		if other := owner[name]; other != "" && other != s.doc.Name {
			p.warn(s.doc, i, "give each source a secret of its own", "%s is that of Source %s too: who may send to one can send to both", name, other)
			return
		}
		owner[name] = s.doc.Name
		return
	}
	for _, e := range i.Elements {
		p.sharedSecrets(s, e, owner)
	}
	for _, m := range i.Members {
		p.sharedSecrets(s, m.Item, owner)
	}
}
