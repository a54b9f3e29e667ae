package lint

import "slices"

func unknownIgnore() Check {
	return Check{
		ID:  "unknown-ignore",
		Doc: "an annotation `" + Ignore + "` that names no warning",
		Why: "It silences nothing: the name is misspelt, or of another version.",
		run: func(p *pass) {
			var known []string
			for _, c := range Checks() {
				known = append(known, c.ID)
			}
			for _, d := range p.docs {
				for _, id := range ignored(d) {
					if !slices.Contains(known, id) {
						at := d.Item.Get("metadata").Get("annotations").Get(Ignore)
						p.warn(d, at, didYouMean(id, known, ""), "there is no warning %q", id)
					}
				}
			}
		},
	}
}
