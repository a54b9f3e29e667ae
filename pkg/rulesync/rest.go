package rulesync

import "time"

// restFactor is how many times as long as it took to find something wrong it is left alone, so that no more than a twentieth
// of a processor goes into what can't be built.
const restFactor = 20

// rest remembers a state of the rules that could not be built, so that one that takes long is not built again at each look.
type rest struct {
	what  string
	until time.Time
	err   error
}

// of returns why a state can't be built, while that is not to be tried again.
func (r *rest) of(what string) error {
	if r.what != what || !time.Now().Before(r.until) {
		return nil
	}
	return r.err
}

// failed notes that it was found out, from began until now, why a state can't be built.
func (r *rest) failed(what string, began time.Time, err error) {
	now := time.Now()
	*r = rest{what, now.Add(restFactor * now.Sub(began)), err}
}
