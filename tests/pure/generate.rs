//! Random specs: mostly such as people write, with hostile strings, extreme
//! numbers and contradictions in between.

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Map, Value, json};

/// A spec of a CachedService, as it is written.
pub fn spec() -> impl Strategy<Value = Value> {
    let container = object(vec![
        always("image", image().boxed()),
        sometimes("port", integer(1..=65535)),
        seldom("command", vec(text(), 0..3).prop_map(Value::from).boxed()),
        seldom("args", vec(text(), 0..3).prop_map(Value::from).boxed()),
        sometimes("env", env()),
        seldom("envFrom", vec(env_from(), 0..3).prop_map(Value::from).boxed()),
        sometimes("resources", resources(&["cpu", "memory", "ephemeral-storage"])),
        seldom("imagePullPolicy", mostly(&["Always", "IfNotPresent", "Never"])),
        seldom("imagePullSecrets", Just(json!([{ "name": "registry" }])).boxed()),
        seldom("runAsNonRoot", boolean()),
        seldom("labels", labels(&["team", "example.com/tier"])),
        seldom("annotations", labels(&["team", "example.com/owner"])),
        seldom("podLabels", labels(&["team", "app", "cachedservice.dev/name"])),
        seldom("serviceAccount", service_account()),
        seldom("podAnnotations", labels(&["team", "prometheus.io/scrape", "cachedservice.dev/credentials"])),
    ]);
    let rest = object(vec![
        sometimes("probes", probes()),
        sometimes("shutdown", object(vec![sometimes("drain", duration()), sometimes("timeout", duration())])),
        seldom("progressDeadline", duration()),
        sometimes("service", service()),
        sometimes("redis", redis()),
        sometimes("cache", cache()),
        sometimes("balancing", balancing()),
        seldom("sidecar", sidecar()),
        often("template", template()),
        seldom("templateRevision", integer(1..=2)),
        seldom("rollout", rollout()),
        seldom("disruptionBudget", disruption_budget()),
        seldom("topologySpreadConstraints", spread()),
        seldom("affinity", affinity()),
        seldom("tolerations", tolerations()),
        seldom("nodeSelector", labels(&["disk"])),
        seldom("priorityClassName", mostly(&["system-node-critical"])),
    ]);
    (container, scale(), rest).prop_map(|(container, scale, rest)| {
        let mut spec = Map::new();
        for part in [container, scale, rest] {
            if let Value::Object(part) = part {
                spec.extend(part);
            }
        }
        Value::Object(spec)
    })
}

/// A field of an object, and with which probability it is there.
type Field = (&'static str, f64, BoxedStrategy<Value>);

fn always(name: &'static str, value: BoxedStrategy<Value>) -> Field {
    (name, 1.0, value)
}

fn often(name: &'static str, value: BoxedStrategy<Value>) -> Field {
    (name, 0.7, value)
}

fn sometimes(name: &'static str, value: BoxedStrategy<Value>) -> Field {
    (name, 0.4, value)
}

fn seldom(name: &'static str, value: BoxedStrategy<Value>) -> Field {
    (name, 0.1, value)
}

fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    fields
        .into_iter()
        .map(|(name, probability, value)| {
            let value = if probability < 1.0 {
                proptest::option::weighted(probability, value).boxed()
            } else {
                value.prop_map(Some).boxed()
            };
            value.prop_map(move |value| (name, value))
        })
        .collect::<Vec<_>>()
        .prop_map(|fields| {
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        })
        .boxed()
}

fn boolean() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

/// What is as it should be fifty times, and once it is not.
fn rarely_hostile(good: BoxedStrategy<Value>, hostile: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![50 => good, 1 => hostile].boxed()
}

fn integer(range: std::ops::RangeInclusive<i32>) -> BoxedStrategy<Value> {
    let extreme = select(vec![0, -1, i32::MIN, i32::MAX, 65536]).prop_map(Value::from);
    rarely_hostile(range.prop_map(Value::from).boxed(), extreme.boxed())
}

fn mostly(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    rarely_hostile(select(values).prop_map(Value::from).boxed(), hostile_text())
}

fn text() -> BoxedStrategy<Value> {
    rarely_hostile("[a-z][a-z0-9 =./$()-]{0,12}".prop_map(Value::from).boxed(), hostile_text())
}

fn hostile_text() -> BoxedStrategy<Value> {
    prop_oneof![
        select(
            &[
                "",
                " ",
                "\n",
                "\u{0}",
                "\"",
                "'; exit 1 #",
                "$(PORT)",
                "{{ .Values }}",
                "null",
                "~",
                "0x10",
                "1e9",
                "é\u{301}\u{202e}",
                "🦀",
                "-",
                "a: b",
                "../../etc/passwd",
                "--flag",
                "%00",
            ][..]
        )
        .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (200..2000_usize).prop_map(|length| Value::from("a".repeat(length))),
    ]
    .boxed()
}

fn image() -> BoxedStrategy<Value> {
    mostly(&["example.com/shop:1.4", "redis", "example.com/a@sha256:00", "localhost:5000/x/y"])
}

fn duration() -> BoxedStrategy<Value> {
    mostly(&["0s", "1ms", "5s", "90s", "1m30s", "10m", "24h"])
}

fn quantity() -> BoxedStrategy<Value> {
    let numbers = select(&[0, 1, 2, 1_073_741_824][..]).prop_map(Value::from);
    let good = prop_oneof![
        1 => numbers,
        8 => select(&["50m", "100m", "1", "0.5", "1500m", "64Mi", "1Gi", "1e9", "2k"][..]).prop_map(Value::from),
    ];
    let bad = prop_oneof![mostly(&["-1", "1Zi", "+1", "1.", ".5", "0.1m", "99999999999Ei"]), hostile_text()];
    rarely_hostile(good.boxed(), bad.boxed())
}

fn resources(names: &'static [&'static str]) -> BoxedStrategy<Value> {
    let quantities = || {
        subsequence(names, 0..=names.len())
            .prop_flat_map(|names| {
                names
                    .into_iter()
                    .map(|name| quantity().prop_map(move |value| (name, value)))
                    .collect::<Vec<_>>()
            })
            .prop_map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            .boxed()
    };
    object(vec![often("requests", quantities()), sometimes("limits", quantities())])
}

fn labels(keys: &'static [&'static str]) -> BoxedStrategy<Value> {
    let key = prop_oneof![30 => select(keys).prop_map(ToOwned::to_owned), 1 => any::<String>()];
    let value = prop_oneof![30 => "[a-z]{0,5}".boxed(), 1 => any::<String>().boxed()];
    btree_map(key, value.prop_map(Value::from), 0..4)
        .prop_map(|labels| Value::Object(labels.into_iter().collect()))
        .boxed()
}

fn env() -> BoxedStrategy<Value> {
    let names: &[&str] = &["A", "LOG_LEVEL", "PORT", "REDIS_URL", "x.y-z"];
    subsequence(names, 0..=names.len())
        .prop_flat_map(|names| names.into_iter().map(variable).collect::<Vec<_>>())
        .prop_map(Value::from)
        .boxed()
}

fn variable(name: &'static str) -> BoxedStrategy<Value> {
    prop_oneof![
        6 => text().prop_map(move |value| json!({ "name": name, "value": value })),
        2 => Just(json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } })),
        2 => Just(json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } })),
        1 => Just(json!({ "name": name, "valueFrom": { "configMapKeyRef": { "key": "k", "optional": false } } })),
        1 => Just(json!({ "name": name, "value": "" })),
        1 => Just(json!({ "name": name })),
    ]
    .boxed()
}

fn env_from() -> BoxedStrategy<Value> {
    select(vec![
        json!({ "configMapRef": { "name": "settings" } }),
        json!({ "prefix": "DB_", "secretRef": { "name": "db", "optional": true } }),
        json!({}),
    ])
    .boxed()
}

fn handler() -> BoxedStrategy<Value> {
    prop_oneof![
        4 => Just(json!({ "httpGet": { "path": "/ready", "port": "http" } })),
        2 => Just(json!({ "httpGet": { "path": "/ready", "port": 9090 } })),
        2 => Just(json!({ "tcpSocket": { "port": 6000 } })),
        2 => Just(json!({ "exec": { "command": ["true"] } })),
        2 => Just(json!({ "grpc": { "port": 6000 } })),
    ]
    .boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let timing = object(vec![
        sometimes("periodSeconds", integer(1..=30)),
        seldom("timeoutSeconds", integer(1..=30)),
        seldom("failureThreshold", integer(1..=30)),
        seldom("initialDelaySeconds", integer(0..=30)),
    ]);
    (handler(), timing)
        .prop_map(|(mut handler, timing)| {
            if let (Value::Object(handler), Value::Object(timing)) = (&mut handler, timing) {
                handler.extend(timing);
            }
            handler
        })
        .boxed()
}

fn probes() -> BoxedStrategy<Value> {
    let switch = || {
        prop_oneof![
            2 => Just(json!({})),
            2 => Just(json!({ "enabled": false })),
            3 => probe().prop_map(|probe| json!({ "custom": probe })),
        ]
        .boxed()
    };
    object(vec![
        sometimes("path", mostly(&["/", "/healthz", "/a/b?c=d"])),
        sometimes("startup", switch()),
        sometimes("readiness", switch()),
        sometimes("liveness", switch()),
    ])
}

/// Either a range or a fixed number.
fn scale() -> BoxedStrategy<Value> {
    let metric = select(vec![
        json!({ "type": "Pods", "pods": {
            "metric": { "name": "rps" }, "target": { "type": "AverageValue", "averageValue": "30" },
        } }),
        json!({ "type": "Resource", "resource": {
            "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 },
        } }),
        json!({ "type": "Pods" }),
        json!({ "type": "Pods", "pods": {
            "metric": { "name": "rps" }, "target": { "type": "AverageValue", "averageValue": "30/s" },
        } }),
    ]);
    let behavior = select(vec![
        json!({}),
        json!({ "scaleDown": { "stabilizationWindowSeconds": 0 } }),
        json!({ "scaleUp": { "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 60 }] } }),
        json!({ "scaleUp": { "stabilizationWindowSeconds": 99999 } }),
    ]);
    let ranged = (1..=5_i32, 0..=20_i32).prop_flat_map(move |(least, more)| {
        object(vec![
            always("minReplicas", integer(least..=least)),
            always("maxReplicas", integer(least + more..=least + more)),
            sometimes("targetCPUUtilization", integer(1..=100)),
            seldom("targetMemoryUtilization", integer(1..=100)),
            seldom("metrics", vec(metric.clone(), 0..3).prop_map(Value::from).boxed()),
            seldom("behavior", behavior.clone().boxed()),
        ])
    });
    let fixed = |replicas| json!({ "autoscaling": { "enabled": false }, "replicas": replicas });
    prop_oneof![
        2 => Just(json!({})),
        4 => ranged.prop_map(|autoscaling| json!({ "autoscaling": autoscaling })),
        2 => integer(0..=20).prop_map(fixed),
    ]
    .boxed()
}

fn service_account() -> BoxedStrategy<Value> {
    prop_oneof![
        2 => object(vec![
            always("create", Just(json!(true)).boxed()),
            sometimes("annotations", labels(&["cloud.example.com/role"])),
            sometimes("automountToken", boolean()),
        ]),
        1 => object(vec![always("name", mostly(&["web"])), sometimes("automountToken", boolean())]),
    ]
    .boxed()
}

fn rollout() -> BoxedStrategy<Value> {
    object(vec![
        sometimes("strategy", mostly(&["RollingUpdate", "Recreate"])),
        sometimes("maxSurge", count_or_percentage()),
        sometimes("maxUnavailable", count_or_percentage()),
        sometimes("minReadySeconds", integer(0..=30)),
        sometimes("revisionHistoryLimit", integer(0..=10)),
        sometimes("onConfigChange", boolean()),
    ])
}

fn disruption_budget() -> BoxedStrategy<Value> {
    prop_oneof![
        1 => Just(json!({ "enabled": false })),
        2 => object(vec![always("maxUnavailable", count_or_percentage())]),
        2 => object(vec![always("minAvailable", count_or_percentage())]),
    ]
    .boxed()
}

fn count_or_percentage() -> BoxedStrategy<Value> {
    prop_oneof![integer(0..=3), mostly(&["0%", "1%", "25%", "100%"])].boxed()
}

fn service() -> BoxedStrategy<Value> {
    object(vec![
        sometimes("port", integer(1..=65535)),
        sometimes("type", mostly(&["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"])),
        seldom("annotations", labels(&["cloud.example.com/internal", "team"])),
        seldom("clusterIP", mostly(&["None"])),
    ])
}

fn redis() -> BoxedStrategy<Value> {
    let standalone = object(vec![
        sometimes("memory", mostly(&["32Mi", "256Mi", "0.5Gi", "+1Gi", "1e9", "268435456", "8Ei"])),
        sometimes("evictionPolicy", mostly(&["noeviction", "allkeys-lru", "volatile-ttl"])),
        sometimes("auth", boolean().prop_map(|enabled| json!({ "enabled": enabled })).boxed()),
        seldom("image", image()),
        seldom("resources", resources(&["cpu", "ephemeral-storage"])),
    ]);
    let external = mostly(&["cache", "company-redis"]).prop_map(
        |name| json!({ "mode": "External", "external": { "urlSecretRef": { "name": name, "key": "url" } } }),
    );
    prop_oneof![5 => standalone, 1 => external].boxed()
}

fn cache() -> BoxedStrategy<Value> {
    let names = |names: &'static [&'static str]| vec(mostly(names), 1..3).prop_map(Value::from).boxed();
    let rule = object(vec![
        often("paths", names(&["/static/*", "*.css", "/", "static"])),
        seldom("methods", Just(json!(["GET"])).boxed()),
        seldom(
            "headers",
            Just(json!([{ "name": "X-Preview" }, { "name": "accept", "value": "a/b" }])).boxed(),
        ),
        seldom("bypass", boolean()),
        sometimes("preset", mostly(&["StaticAssets", "ApiResponses"])),
        sometimes("ttl", duration()),
        seldom("override", boolean()),
        seldom("staleWhileRevalidate", duration()),
        seldom("staleIfError", duration()),
        seldom("ignoredQueryParameters", names(&["utm_*", "ref"])),
        seldom("cookies", names(&["lang", "session"])),
        seldom("tags", names(&["products", "a,b"])),
    ]);
    let http = object(vec![
        seldom("enabled", boolean()),
        sometimes("memory", mostly(&["64Mi", "1Mi", "0.5Gi", "1e9"])),
        sometimes("maxObjectSize", mostly(&["1Mi", "64Ki", "1", "65Mi"])),
        sometimes("rules", vec(rule, 0..3).prop_map(Value::from).boxed()),
    ]);
    object(vec![often("http", http), sometimes("application", near_cache())])
}

fn near_cache() -> BoxedStrategy<Value> {
    let pool = object(vec![
        sometimes("max", integer(1..=1000)),
        seldom("min", integer(0..=10)),
        seldom("idleTimeout", duration()),
        seldom("connectTimeout", duration()),
        seldom("maxPinned", integer(1..=10_000)),
    ]);
    let rule = object(vec![
        always("prefix", mostly(&["user:", "user:session:", "report:", "a*"])),
        seldom("enabled", boolean()),
        often("ttl", duration()),
        sometimes("maxValueSize", mostly(&["64Ki", "1Mi", "0", "65Mi"])),
        sometimes("preset", mostly(&["ComputedData", "Sessions"])),
        sometimes("addTTL", boolean()),
        seldom("defaultTTL", duration()),
        seldom("whenRedisFails", mostly(&["Error", "StaleOrError"])),
    ]);
    object(vec![
        seldom("enabled", boolean()),
        sometimes("memory", mostly(&["64Mi", "1Mi", "0.5Gi", "1e9"])),
        sometimes("ttl", duration()),
        sometimes("maxValueSize", mostly(&["1Mi", "64Ki", "1", "65Mi"])),
        sometimes("defaultTTL", duration()),
        sometimes("whenRedisFails", mostly(&["Error", "Miss", "StaleOrMiss"])),
        sometimes("pool", pool),
        sometimes("rules", vec(rule, 0..3).prop_map(Value::from).boxed()),
    ])
}

fn balancing() -> BoxedStrategy<Value> {
    let health_check = object(vec![
        seldom("enabled", boolean()),
        sometimes("path", mostly(&["/readyz", "/", "readyz"])),
        sometimes("interval", duration()),
        seldom("timeout", duration()),
        seldom("failureThreshold", integer(1..=100)),
        seldom("successThreshold", integer(1..=100)),
    ]);
    let breaker = object(vec![
        sometimes("consecutiveFailures", integer(1..=1000)),
        seldom("failurePercent", integer(1..=100)),
        seldom("minRequests", integer(1..=10_000)),
        sometimes("openTime", duration()),
        seldom("maxOpenTime", duration()),
    ]);
    let budget =
        object(vec![sometimes("percent", integer(0..=100)), sometimes("minPerSecond", integer(0..=1000))]);
    object(vec![
        seldom("enabled", boolean()),
        sometimes("mode", mostly(&["RoundRobin", "OwnFirst"])),
        sometimes("healthCheck", health_check),
        sometimes("breaker", breaker),
        sometimes("retryBudget", budget),
        sometimes("maxConcurrent", integer(1..=100_000)),
    ])
}

fn sidecar() -> BoxedStrategy<Value> {
    object(vec![
        sometimes("image", image()),
        sometimes("imagePullPolicy", mostly(&["Always", "IfNotPresent", "Never"])),
        sometimes("resources", resources(&["cpu", "memory", "ephemeral-storage"])),
    ])
}

fn template() -> BoxedStrategy<Value> {
    let metadata = object(vec![
        sometimes(
            "labels",
            labels(&["team", "app", "cachedservice.dev/name", "app.kubernetes.io/component"]),
        ),
        sometimes("annotations", labels(&["team", "cachedservice.dev/template-revision"])),
        seldom("name", mostly(&["other"])),
        seldom("finalizers", Just(json!(["example.com/keep"])).boxed()),
    ]);
    let containers = vec(prop_oneof![3 => container("app"), 1 => container("log"), 1 => container("")], 0..3);
    let init = object(vec![
        always("name", mostly(&["migrate", "mesh"])),
        always("image", image()),
        sometimes("restartPolicy", mostly(&["Always"])),
    ]);
    let spec = object(vec![
        often("containers", containers.prop_map(Value::from).boxed()),
        seldom("initContainers", vec(init, 1..2).prop_map(Value::from).boxed()),
        often("volumes", volumes()),
        seldom("tolerations", tolerations()),
        seldom("nodeSelector", labels(&["disk"])),
        seldom("serviceAccountName", mostly(&["shop"])),
        seldom("terminationGracePeriodSeconds", integer(0..=90)),
        seldom("hostNetwork", boolean()),
        seldom("shareProcessNamespace", boolean()),
        seldom("dnsPolicy", mostly(&["ClusterFirst", "None", "Default"])),
        seldom("restartPolicy", mostly(&["Always"])),
        seldom("securityContext", Just(json!({ "fsGroup": 2000, "sysctls": [] })).boxed()),
        seldom("topologySpreadConstraints", spread()),
        seldom("affinity", affinity()),
        seldom("initContainers", Just(json!([])).boxed()),
        seldom("overhead", Just(json!({})).boxed()),
        seldom("readinessGates", Just(json!([{ "conditionType": "example.com/ready" }])).boxed()),
        seldom(
            "dnsConfig",
            Just(json!({ "nameservers": [], "options": [{ "name": "ndots", "value": "" }] })).boxed(),
        ),
        seldom("nodeName", Just(json!("")).boxed()),
        seldom("hostname", Just(json!("")).boxed()),
        seldom("hostAliases", Just(json!([{ "ip": "192.0.2.1", "hostnames": ["legacy"] }])).boxed()),
    ]);
    let plausible = object(vec![sometimes("metadata", metadata), often("spec", spec)]);
    rarely_hostile(plausible, anything())
}

fn one_of(values: Vec<Value>) -> BoxedStrategy<Value> {
    select(values).boxed()
}

/// `scratch`, which containers mount, and others of all kinds; some of their fields are empty.
fn volumes() -> BoxedStrategy<Value> {
    let kinds = one_of(vec![
        json!({ "emptyDir": { "medium": "", "sizeLimit": "1Gi" } }),
        json!({ "configMap": { "name": "settings", "items": [], "optional": false } }),
        json!({ "secret": { "secretName": "s", "items": [{ "key": "k", "path": "p", "mode": 0 }], "defaultMode": 0 } }),
        json!({ "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600, "audience": "" } },
            { "downwardAPI": { "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } },
        ] } }),
        json!({ "persistentVolumeClaim": { "claimName": "data", "readOnly": false } }),
        json!({ "hostPath": { "path": "/srv", "type": "" } }),
        json!({ "csi": { "driver": "example.com", "volumeAttributes": {}, "nodePublishSecretRef": { "name": "s" } } }),
        json!({ "ephemeral": { "volumeClaimTemplate": { "metadata": { "labels": {} }, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        } } } }),
        json!({}),
    ]);
    vec(kinds, 0..3)
        .prop_map(|kinds| {
            let named = kinds.into_iter().enumerate().map(|(at, mut kind)| {
                kind["name"] = Value::from(format!("v{at}"));
                kind
            });
            std::iter::once(json!({ "name": "scratch", "emptyDir": {} })).chain(named).collect()
        })
        .boxed()
}

fn tolerations() -> BoxedStrategy<Value> {
    one_of(vec![json!([]), json!([{ "operator": "Exists" }, { "key": "a", "value": "b" }])])
}

fn spread() -> BoxedStrategy<Value> {
    let constraint = object(vec![
        always("topologyKey", mostly(&["kubernetes.io/hostname", "rack"])),
        always("maxSkew", integer(1..=5)),
        always("whenUnsatisfiable", mostly(&["DoNotSchedule", "ScheduleAnyway"])),
    ]);
    vec(constraint, 0..3).prop_map(Value::from).boxed()
}

fn affinity() -> BoxedStrategy<Value> {
    let term = json!({ "topologyKey": "rack", "labelSelector": { "matchExpressions": [
        { "key": "team", "operator": "In", "values": ["web"] },
    ] }, "namespaces": [] });
    one_of(vec![
        json!({ "nodeAffinity": {}, "podAntiAffinity": null }),
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "disk", "operator": "Exists" }], "matchFields": [] },
        ] } } }),
        json!({ "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 1, "podAffinityTerm": term },
        ] } }),
    ])
}

fn container(name: &'static str) -> BoxedStrategy<Value> {
    let port = object(vec![
        always("containerPort", mostly_port()),
        sometimes("name", mostly(&["metrics", "admin", "http"])),
        sometimes("protocol", mostly(&["TCP", "UDP"])),
    ]);
    let lifecycle = object(vec![
        seldom("stopSignal", Just(json!("SIGINT")).boxed()),
        sometimes("preStop", Just(json!({ "exec": { "command": ["true"] } })).boxed()),
        sometimes("preStop", Just(json!({ "sleep": { "seconds": 1 } })).boxed()),
        sometimes("postStart", Just(json!({ "exec": { "command": ["true"] } })).boxed()),
    ]);
    let security = object(vec![
        sometimes("readOnlyRootFilesystem", boolean()),
        seldom("privileged", boolean()),
        seldom("runAsUser", integer(0..=9999)),
        seldom("capabilities", Just(json!({ "add": ["NET_BIND_SERVICE"] })).boxed()),
    ]);
    object(vec![
        always("name", Just(Value::from(name)).boxed()),
        if name == "app" { seldom("image", image()) } else { always("image", image()) },
        sometimes("env", env()),
        sometimes("ports", vec(port, 0..3).prop_map(Value::from).boxed()),
        sometimes("resources", resources(&["cpu", "memory"])),
        sometimes("livenessProbe", prop_oneof![probe(), Just(json!({ "periodSeconds": 7 }))].boxed()),
        seldom("readinessProbe", probe()),
        seldom("startupProbe", probe()),
        seldom("lifecycle", lifecycle),
        seldom("securityContext", security),
        sometimes(
            "volumeMounts",
            one_of(vec![
                json!([]),
                json!([{ "name": "scratch", "mountPath": "/scratch", "readOnly": false, "subPath": "" }]),
                json!([{ "name": "scratch", "mountPath": "/scratch" }, { "name": "scratch", "mountPath": "/other" }]),
            ]),
        ),
        seldom("command", Just(json!([])).boxed()),
        seldom(
            "resizePolicy",
            Just(json!([{ "resourceName": "cpu", "restartPolicy": "NotRequired" }])).boxed(),
        ),
        seldom("terminationMessagePolicy", mostly(&["FallbackToLogsOnError"])),
        seldom("workingDir", mostly(&["/"])),
        seldom("tty", boolean()),
        seldom("imaeg", text()),
    ])
}

fn mostly_port() -> BoxedStrategy<Value> {
    prop_oneof![3 => Just(json!(9090)), 1 => Just(json!(8080)), 1 => integer(1..=65535)].boxed()
}

/// JSON of any shape, an object at the top.
fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        boolean(),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        hostile_text(),
    ];
    let names = || {
        prop_oneof![
            select(&["spec", "metadata", "containers", "name", "labels"][..]).prop_map(ToOwned::to_owned),
            any::<String>()
        ]
    };
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(names(), inner, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .prop_map(|value| json!({ "spec": value }))
    .boxed()
}
