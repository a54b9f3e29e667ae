package forgetest_test

import (
	"testing"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
)

func TestTheWorldIsAForge(t *testing.T) {
	forgetest.Writing(t, func(_ *testing.T, w *forgetest.World) forge.Forge { return w })
}
