// What go-redis does at the URL that is given: a line for each check, and the last one counts them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// For one check.
const limit = 15 * time.Second

// Commands in a pipeline.
const count = 1000

type client struct {
	*redis.Client
	options redis.Options
}

// Another client with connections of its own.
func (c client) other(change func(*redis.Options)) *redis.Client {
	options := c.options
	change(&options)
	return redis.NewClient(&options)
}

func same(*redis.Options) {}

type check struct {
	sentence string
	run      func(context.Context, client) error
}

var checks = []check{
	{"speaks the protocol it asked for", protocol},
	{"reads its own write on another connection", ownWrites},
	{"gets hashes, sets and sorted sets in its own types", types},
	{"keeps the order in a pipeline", pipeline},
	{"runs transactions", transaction},
	{"gives up a transaction whose key was changed under WATCH", watch},
	{"hears what is published, by channel and by pattern", published},
	{"waits in a blocking pop for what is pushed, and no longer than it said", blocking},
	{"runs scripts by text and by hash", scripts},
	{"carries large values", large},
	{"keeps databases apart", databases},
	{"is told of errors as Redis says them", told},
}

var keys int

// A key of this run.
func key() string {
	keys++
	return fmt.Sprintf("near-cache:%d:%d", os.Getpid(), keys)
}

func equal(found, wanted any) error {
	if !reflect.DeepEqual(found, wanted) {
		return fmt.Errorf("%#v, and not %#v", found, wanted)
	}
	return nil
}

// An error whose text has this in it.
func refused(err error, with string) error {
	if err == nil || !strings.Contains(err.Error(), with) {
		return fmt.Errorf("not refused with %s: %v", with, err)
	}
	return nil
}

func protocol(ctx context.Context, c client) error {
	found, err := c.Do(ctx, "HELLO").Result()
	if err != nil {
		return err
	}
	var spoken any
	switch found := found.(type) {
	case map[any]any:
		spoken = found["proto"]
	case []any:
		spoken = found[slices.Index(found, any("proto"))+1]
	}
	return equal(spoken, int64(c.options.Protocol))
}

func ownWrites(ctx context.Context, c client) error {
	other, name := c.other(same), key()
	defer other.Close()
	for n := range 100 {
		if err := c.Set(ctx, name, n, 0).Err(); err != nil {
			return err
		}
		if found, err := other.Get(ctx, name).Result(); err != nil || found != strconv.Itoa(n) {
			return fmt.Errorf("%s, %v, and not %d", found, err, n)
		}
	}
	c.Del(ctx, name)
	return equal(other.Get(ctx, name).Err(), redis.Nil)
}

func types(ctx context.Context, c client) error {
	hash, set, sorted := key(), key(), key()
	c.HSet(ctx, hash, "one", "1", "two", "2")
	c.SAdd(ctx, set, "a", "b")
	c.ZAdd(ctx, sorted, redis.Z{Score: 1.5, Member: "a"}, redis.Z{Score: 2, Member: "b"})
	// The second time it may be from memory.
	for range 2 {
		if err := errors.Join(
			equal(c.HGetAll(ctx, hash).Val(), map[string]string{"one": "1", "two": "2"}),
			equal(c.SIsMember(ctx, set, "a").Val(), true),
			equal(c.SMembersMap(ctx, set).Val(), map[string]struct{}{"a": {}, "b": {}}),
			equal(c.ZRangeWithScores(ctx, sorted, 0, -1).Val(), []redis.Z{{Score: 1.5, Member: "a"}, {Score: 2, Member: "b"}}),
			equal(c.ZScore(ctx, sorted, "a").Val(), 1.5),
		); err != nil {
			return err
		}
	}
	return nil
}

func pipeline(ctx context.Context, c client) error {
	name := key()
	var found []*redis.StringCmd
	if _, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for n := range count {
			pipe.Set(ctx, name, n, 0)
			found = append(found, pipe.Get(ctx, name))
		}
		return nil
	}); err != nil {
		return err
	}
	for n, reply := range found {
		if err := equal(reply.Val(), strconv.Itoa(n)); err != nil {
			return err
		}
	}
	return nil
}

func transaction(ctx context.Context, c client) error {
	name := key()
	var counted *redis.IntCmd
	var found *redis.StringCmd
	if _, err := c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, name, 1, 0)
		counted, found = pipe.Incr(ctx, name), pipe.Get(ctx, name)
		return nil
	}); err != nil {
		return err
	}
	return errors.Join(equal(counted.Val(), int64(2)), equal(found.Val(), "2"))
}

func watch(ctx context.Context, c client) error {
	other, name := c.other(same), key()
	defer other.Close()
	c.Set(ctx, name, 1, 0)
	err := c.Watch(ctx, func(tx *redis.Tx) error {
		if err := equal(tx.Get(ctx, name).Val(), "1"); err != nil {
			return err
		}
		other.Set(ctx, name, 2, 0)
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, name, 3, 0)
			return nil
		})
		return err
	}, name)
	return errors.Join(equal(err, redis.TxFailedErr), equal(c.Get(ctx, name).Val(), "2"))
}

func published(ctx context.Context, c client) error {
	channel := key()
	subscriber := c.Subscribe(ctx, channel)
	defer subscriber.Close()
	if err := subscriber.PSubscribe(ctx, channel+"*"); err != nil {
		return err
	}
	for range 2 {
		if _, err := subscriber.Receive(ctx); err != nil {
			return err
		}
	}
	if err := equal(c.Publish(ctx, channel, "hello").Val(), int64(2)); err != nil {
		return err
	}
	for range 2 {
		message, err := subscriber.ReceiveMessage(ctx)
		if err != nil || message.Payload != "hello" {
			return fmt.Errorf("heard %v: %v", message, err)
		}
	}
	if err := subscriber.Ping(ctx, "there"); err != nil {
		return err
	}
	pong, err := subscriber.Receive(ctx)
	if err != nil {
		return err
	}
	return equal(pong, &redis.Pong{Payload: "there"})
}

func blocking(ctx context.Context, c client) error {
	name := key()
	go func() { c.RPush(ctx, name, "pushed") }()
	found, err := c.BLPop(ctx, 10*time.Second, name).Result()
	if err != nil {
		return err
	}
	return errors.Join(
		equal(found, []string{name, "pushed"}),
		equal(c.BLPop(ctx, time.Second, name).Err(), redis.Nil),
	)
}

func scripts(ctx context.Context, c client) error {
	name := key()
	script := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1]) -- " + name)
	if err := refused(script.EvalSha(ctx, c, []string{name}, 2).Err(), "NOSCRIPT"); err != nil {
		return err
	}
	for _, wanted := range []int64{2, 4} {
		if err := errors.Join(
			equal(script.Run(ctx, c, []string{name}, 2).Val(), wanted),
			equal(c.Get(ctx, name).Val(), strconv.FormatInt(wanted, 10)),
		); err != nil {
			return err
		}
	}
	return nil
}

func large(ctx context.Context, c client) error {
	name, text := key(), strings.Repeat("x", 8<<20)
	if err := c.Set(ctx, name, text, 0).Err(); err != nil {
		return err
	}
	for range 2 {
		if found, err := c.Get(ctx, name).Result(); err != nil || found != text {
			return fmt.Errorf("%d bytes, %v", len(found), err)
		}
	}
	return c.Unlink(ctx, name).Err()
}

func databases(ctx context.Context, c client) error {
	other, name := c.other(func(options *redis.Options) { options.DB = 3 }), key()
	defer other.Close()
	c.Set(ctx, name, "here", 0)
	if err := equal(other.Get(ctx, name).Err(), redis.Nil); err != nil {
		return err
	}
	other.Set(ctx, name, "there", 0)
	defer other.Del(ctx, name)
	return errors.Join(equal(c.Get(ctx, name).Val(), "here"), equal(other.Get(ctx, name).Val(), "there"))
}

func told(ctx context.Context, c client) error {
	name := key()
	c.Set(ctx, name, "text", 0)
	stranger := c.other(func(options *redis.Options) { options.Username, options.Password = "nobody", "wrong" })
	defer stranger.Close()
	return errors.Join(
		refused(c.Incr(ctx, name).Err(), "not an integer"),
		refused(c.LLen(ctx, name).Err(), "WRONGTYPE"),
		refused(c.Do(ctx, "NOSUCHCOMMAND").Err(), "unknown command"),
		refused(stranger.Ping(ctx).Err(), "WRONGPASS"),
	)
}

func main() {
	given, err := redis.ParseURL(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	passed, failed := 0, 0
	for _, version := range []int{2, 3} {
		options := *given
		options.Protocol = version
		for _, check := range checks {
			copied := options
			c := client{redis.NewClient(&copied), options}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			err := check.run(ctx, c)
			cancel()
			c.Close()
			if err != nil {
				failed++
				fmt.Printf("FAILED  go-redis, RESP%d: %s: %v\n", version, check.sentence, err)
				continue
			}
			passed++
			fmt.Printf("ok      go-redis, RESP%d: %s\n", version, check.sentence)
		}
	}
	fmt.Printf("go-redis: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
