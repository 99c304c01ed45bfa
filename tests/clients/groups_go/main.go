// Members of consumer groups with franz-go, Sarama and kafka-go, for tests/clients/groups.py.
//
// Usage: groups CLIENT BOOTSTRAP TOPIC GROUP
//        groups many BOOTSTRAP TOPIC GROUPS MEMBERS RECORDS
// A member says "MICROS got PARTITION OFFSET" of each record, and then "MICROS committed PARTITION NEXT"
// when the broker has taken the commit, or "MICROS refused PARTITION NEXT" as from one who is no member any
// more. SIGTERM: it leaves its group. `many`: see many.go.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	session   = 3 * time.Second
	heartbeat = 300 * time.Millisecond
)

var saying sync.Mutex

func say(format string, arguments ...any) {
	saying.Lock()
	defer saying.Unlock()
	fmt.Printf("%d %s\n", time.Now().UnixMicro(), fmt.Sprintf(format, arguments...))
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fail("%q is no number", text)
	}
	return n
}

var members = map[string]func(ctx context.Context, bootstrap, topic, group string){
	"franz":    franzMember,
	"sarama":   saramaMember,
	"kafka-go": kafkaGoMember,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	arguments := os.Args[1:]
	if len(arguments) == 6 && arguments[0] == "many" {
		many(ctx, arguments[1], arguments[2], number(arguments[3]), number(arguments[4]),
			number(arguments[5]))
		return
	}
	if len(arguments) != 4 || members[arguments[0]] == nil {
		fail("usage: groups CLIENT BOOTSTRAP TOPIC GROUP")
	}
	members[arguments[0]](ctx, arguments[1], arguments[2], arguments[3])
}
