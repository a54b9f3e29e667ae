package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/client"
)

// healthTimeout bounds one question, so that probes of containers and services end.
const healthTimeout = 10 * time.Second

func newHealth() *cobra.Command {
	var listener, data string
	cmd := &cobra.Command{
		Use: "health", Short: "Say whether a server is ready, and what keeps it from being so", Args: arguments(),
		Example: "  riposte health\n  riposte health --url http://riposte-health:8082",
		Long:    "Health asks the health listener, which needs no token. It exits with 0 where the server is ready, and with 1 where it is not or does not answer within 10 seconds.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listener == "" {
				l, err := client.ReadListen(data)
				if err != nil {
					return err
				}
				listener = l.Health
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			ready, report, err := client.Health(ctx, client.Endpoint{URL: listener})
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), report)
			if !ready {
				return &failure{code: exitFailed, err: errors.New("the server is not ready"), hint: "the lines with [-] say why"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listener, "url", "", "address of the health listener; default: that of the server that uses --data")
	cmd.Flags().StringVar(&data, "data", envOr("RIPOSTE_DATA", "data"), "data directory of a server on this machine (RIPOSTE_DATA)")
	return cmd
}
