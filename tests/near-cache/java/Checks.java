import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.exceptions.JedisDataException;

/** What Jedis does at the URL that is given: a line for each check, and the last one counts them. */
public class Checks {
    private static final int LIMIT = 15_000;
    private static final int COUNT = 1000;
    private static int keys = 0;

    interface Check {
        void run(Jedis client) throws Exception;
    }

    private final URI url;
    private final RedisProtocol protocol;

    Checks(URI url, RedisProtocol protocol) {
        this.url = url;
        this.protocol = protocol;
    }

    private DefaultJedisClientConfig.Builder config() {
        return DefaultJedisClientConfig.builder().protocol(protocol).timeoutMillis(LIMIT);
    }

    private Jedis connect(DefaultJedisClientConfig.Builder config) {
        return new Jedis(new HostAndPort(url.getHost(), url.getPort()), config.build());
    }

    private static String key() {
        return "near-cache:" + ProcessHandle.current().pid() + ":java:" + ++keys;
    }

    private static void equal(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) throw new AssertionError(found + ", and not " + wanted);
    }

    private static void refused(Runnable act, String with) {
        try {
            act.run();
        } catch (JedisDataException refusal) {
            if (refusal.getMessage().contains(with)) return;
            throw refusal;
        }
        throw new AssertionError("not refused with " + with);
    }

    private Map<String, Check> all() {
        Map<String, Check> checks = new java.util.LinkedHashMap<>();
        checks.put("connects by URL", client -> {
            try (Jedis other = new Jedis(url)) {
                equal(other.ping(), "PONG");
            }
        });
        checks.put("reads its own write on another connection", client -> {
            String name = key();
            try (Jedis other = connect(config())) {
                for (int count = 0; count < 100; count++) {
                    client.set(name, "" + count);
                    equal(other.get(name), "" + count);
                }
                client.del(name);
                equal(other.get(name), null);
            }
        });
        checks.put("gets hashes, sets and sorted sets in its own types", client -> {
            String hash = key(), set = key(), sorted = key();
            client.hset(hash, Map.of("one", "1", "two", "2"));
            client.sadd(set, "a", "b");
            client.zadd(sorted, Map.of("a", 1.5, "b", 2.0));
            for (int pass = 0; pass < 2; pass++) {
                equal(client.hgetAll(hash), Map.of("one", "1", "two", "2"));
                equal(client.smembers(set), Set.of("a", "b"));
                equal(client.zscore(sorted, "a"), 1.5);
                equal(client.zrangeWithScores(sorted, 0, -1).get(0).getScore(), 1.5);
            }
        });
        checks.put("keeps the order in a pipeline", client -> {
            String name = key();
            List<Response<String>> found = new ArrayList<>();
            try (var pipeline = client.pipelined()) {
                for (int count = 0; count < COUNT; count++) {
                    pipeline.set(name, "" + count);
                    found.add(pipeline.get(name));
                }
            }
            for (int count = 0; count < COUNT; count++) equal(found.get(count).get(), "" + count);
        });
        checks.put("runs transactions", client -> {
            String name = key();
            var transaction = client.multi();
            transaction.set(name, "1");
            transaction.incr(name);
            transaction.get(name);
            equal(transaction.exec(), List.of("OK", 2L, "2"));
        });
        checks.put("gives up a transaction whose key was changed under WATCH", client -> {
            String name = key();
            try (Jedis other = connect(config())) {
                client.set(name, "1");
                client.watch(name);
                equal(client.get(name), "1");
                other.set(name, "2");
                var transaction = client.multi();
                transaction.set(name, "3");
                equal(transaction.exec(), null);
                equal(client.get(name), "2");
            }
        });
        checks.put("hears what is published, by channel", client -> {
            String channel = key();
            List<String> heard = new ArrayList<>();
            CountDownLatch subscribed = new CountDownLatch(1);
            try (Jedis other = connect(config())) {
                Thread listening = new Thread(() -> other.subscribe(new JedisPubSub() {
                    @Override
                    public void onSubscribe(String name, int count) {
                        subscribed.countDown();
                    }

                    @Override
                    public void onMessage(String name, String message) {
                        heard.add(message);
                        unsubscribe();
                    }
                }, channel));
                listening.start();
                if (!subscribed.await(LIMIT, TimeUnit.MILLISECONDS)) throw new AssertionError("not subscribed");
                equal(client.publish(channel, "hello"), 1L);
                listening.join(LIMIT);
                equal(heard, List.of("hello"));
                equal(other.ping(), "PONG");
            }
        });
        checks.put("waits in a blocking pop for what is pushed, and no longer than it said", client -> {
            String name = key();
            try (Jedis other = connect(config())) {
                Thread pushing = new Thread(() -> other.rpush(name, "pushed"));
                pushing.start();
                equal(client.blpop(10, name), List.of(name, "pushed"));
                pushing.join();
                equal(client.blpop(0.1, name), null);
            }
        });
        checks.put("runs scripts by text and by hash", client -> {
            String name = key(), script = "return redis.call('INCRBY', KEYS[1], ARGV[1]) -- " + name;
            refused(() -> client.evalsha("0".repeat(40), 1, name, "2"), "NOSCRIPT");
            equal(client.eval(script, 1, name, "2"), 2L);
            equal(client.get(name), "2");
            equal(client.evalsha(client.scriptLoad(script), 1, name, "3"), 5L);
            equal(client.get(name), "5");
        });
        checks.put("carries large values", client -> {
            String name = key(), text = "x".repeat(8 << 20);
            client.set(name, text);
            for (int pass = 0; pass < 2; pass++) equal(client.get(name).equals(text), true);
            client.unlink(name);
        });
        checks.put("keeps databases apart", client -> {
            String name = key();
            try (Jedis other = connect(config().database(3))) {
                client.set(name, "here");
                equal(other.get(name), null);
                other.set(name, "there");
                equal(client.get(name), "here");
                client.select(3);
                equal(client.get(name), "there");
                other.del(name);
            }
        });
        checks.put("is told of errors as Redis says them", client -> {
            String name = key();
            client.set(name, "text");
            refused(() -> client.incr(name), "not an integer");
            refused(() -> client.llen(name), "WRONGTYPE");
            refused(() -> connect(config().user("nobody").password("wrong")).ping(), "WRONGPASS");
        });
        return checks;
    }

    public static void main(String[] arguments) throws Exception {
        var running = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        int passed = 0, failed = 0;
        for (RedisProtocol protocol : List.of(RedisProtocol.RESP2, RedisProtocol.RESP3)) {
            Checks checks = new Checks(URI.create(arguments[0]), protocol);
            for (var check : checks.all().entrySet()) {
                Future<?> done = running.submit(() -> {
                    try (Jedis client = checks.connect(checks.config())) {
                        check.getValue().run(client);
                    }
                    return null;
                });
                try {
                    done.get(LIMIT, TimeUnit.MILLISECONDS);
                    passed++;
                    System.out.printf("ok      jedis, %s: %s%n", protocol, check.getKey());
                } catch (Exception failure) {
                    failed++;
                    System.out.printf("FAILED  jedis, %s: %s: %s%n", protocol, check.getKey(), failure);
                }
            }
        }
        System.out.printf("jedis: %d passed, %d failed%n", passed, failed);
        System.exit(failed > 0 ? 1 : 0);
    }
}
