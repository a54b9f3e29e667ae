package event

import "iter"

// Field returns the raw JSON of a member of nested objects without decoding what stands around it: Field(body, "project",
// "id"). Of a key that stands twice the last counts. ok is false where the member is absent, or body no object. The body
// must have passed Validate; of any other, what is returned means nothing. raw is a part of body.
func Field(body []byte, keys ...string) (raw []byte, ok bool) {
	raw = body
	for _, key := range keys {
		ok = false
		object := raw
		for name, value := range Members(object) {
			if Text(name) == key {
				raw, ok = value, true
			}
		}
		if !ok {
			return nil, false
		}
	}
	return raw, true
}

// Members yields the quoted key and the raw value of each member of a JSON object, in its order, and nothing for other
// values. What it says of its argument and result is as for Field.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		r := reader{b: object}
		if r.next() != '{' {
			return
		}
		r.i++
		for c := r.next(); c == '"'; c = r.next() {
			key := r.raw()
			r.next()
			if !yield(key, r.raw()) {
				return
			}
		}
	}
}

// Elements yields the raw values of a JSON array, in its order, and nothing for other values. What it says of its
// argument and result is as for Field.
func Elements(array []byte) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		r := reader{b: array}
		if r.next() != '[' {
			return
		}
		r.i++
		for c := r.next(); c != ']' && c != 0; c = r.next() {
			if !yield(r.raw()) {
				return
			}
		}
	}
}

// Text returns the string that raw JSON stands for; "" where it is no string.
func Text(raw []byte) string { return unquote(raw) }
