package lint

func noTimeout() Check {
	return Check{
		ID:  "no-timeout",
		Doc: "a step that may take for ever",
		Why: "The action has no time limit of its own, so that a command or a service that hangs keeps the run, and whatever waits for it, until somebody looks. Write `timeout:` beside `uses:`.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, s := range r.steps {
					if s.def.Unbounded && s.item.Get("timeout") == nil {
						p.warn(r.Document, s.item.Get("uses"), "write timeout: 10m, or what it takes at most", "%s has no timeout", s.uses)
					}
				}
			}
		},
	}
}
