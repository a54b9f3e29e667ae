package event

// Integer is an integer of a JSON body that int64 can't hold, as its decimal text. Expressions compare it by value.
type Integer string
