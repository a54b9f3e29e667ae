package kube

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Field is one that differs. A missing value is nil; values of Secrets are hidden.
type Field struct {
	Path     string // "spec.template.spec.containers[0].image"
	From, To any
}

// sameManaged reports whether we own the same fields before and after: one that we give up changes nothing now, and later.
func sameManaged(a, b *unstructured.Unstructured) bool {
	of := func(o *unstructured.Unstructured) string {
		for _, m := range o.GetManagedFields() {
			if m.Manager == Manager && m.Operation == metav1.ManagedFieldsOperationApply && m.FieldsV1 != nil {
				return m.FieldsV1.GetRawString()
			}
		}
		return ""
	}
	return of(a) == of(b)
}

// Diff lists the fields in which two readings of an object differ, without what the server keeps for itself.
func Diff(was, is *unstructured.Unstructured) []Field {
	var out []Field
	hidden := was.GetKind() == "Secret"
	compare("", strip(was), strip(is), func(path string, from, to any) {
		if hidden && !strings.HasPrefix(path, "metadata.labels") { // also an annotation may hold it all
			from, to = hide(from), hide(to)
		}
		out = append(out, Field{path, from, to})
	})
	return out
}

func hide(v any) any {
	if v == nil {
		return nil
	}
	return "***"
}

func strip(o *unstructured.Unstructured) map[string]any {
	c := o.DeepCopy().Object
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(c, "metadata", field)
	}
	delete(c, "status")
	return c
}

func compare(path string, a, b any, tell func(path string, from, to any)) {
	x, isMap := a.(map[string]any)
	y, both := b.(map[string]any)
	if isMap && both {
		keys := slices.Sorted(maps.Keys(x))
		for k := range y {
			if _, ok := x[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			compare(member(path, k), x[k], y[k], tell)
		}
		return
	}
	l, isList := a.([]any)
	m, both := b.([]any)
	if isList && both && len(l) == len(m) {
		for i := range l {
			compare(path+"["+strconv.Itoa(i)+"]", l[i], m[i], tell)
		}
		return
	}
	if !reflect.DeepEqual(a, b) {
		tell(path, a, b)
	}
}

func member(path, key string) string {
	if strings.ContainsAny(key, "./") {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return strings.TrimPrefix(path+"."+key, ".")
}
