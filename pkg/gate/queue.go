package gate

import (
	"cmp"
	"slices"
)

// queue is in order of arrival. Taking the first and finding any of them costs the same however long it is; to take one
// out of the middle moves the pointers behind it.
type queue[T ordered] []T

// ordered has a number that rises with every arrival.
type ordered interface{ order() uint64 }

func (q *queue[T]) push(x T) { *q = append(*q, x) }

func (q *queue[T]) pop() T {
	var none T
	x := (*q)[0]
	(*q)[0] = none
	if *q = (*q)[1:]; len(*q) == 0 {
		*q = nil
	}
	return x
}

// find returns where the one with the number is, or would be.
func (q queue[T]) find(order uint64) (int, bool) {
	return slices.BinarySearchFunc(q, order, func(x T, n uint64) int { return cmp.Compare(x.order(), n) })
}

func (q *queue[T]) remove(x T) {
	i, ok := q.find(x.order())
	switch {
	case !ok:
	case i == 0:
		q.pop()
	default:
		*q = slices.Delete(*q, i, i+1)
	}
}

func (q *queue[T]) insert(x T) {
	i, _ := q.find(x.order())
	*q = slices.Insert(*q, i, x)
}
