//! The caching tiers in front of the application.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    near_cache::NearCache,
    schema::{self, rule},
};

/// The caching tiers in front of the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// The cache of HTTP responses (RFC 9111): in the memory of each pod, and in
    /// Redis for all of them. A sidecar in each pod takes the requests. Unset:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCache>,

    /// What the application asks its Redis, answered from the memory of its own pod:
    /// `REDIS_URL` names a sidecar in each pod, which speaks Redis' protocol. Unset:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<NearCache>,
}

/// The cache of HTTP responses. It stores what the responses themselves allow,
/// and what `rules` say beyond.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!isQuantity(self.memory) || !isQuantity(self.maxObjectSize) || quantity(self.maxObjectSize).compareTo(quantity(self.memory)) <= 0",
        "spec.cache.http.maxObjectSize: write at most spec.cache.http.memory; a larger response could not be stored",
    ),
)]
pub struct HttpCache {
    /// Whether the tier is on. Switched on or off, the pods are rolled; no
    /// request is lost. Default true: to write `http` switches it on.
    #[serde(default = "default_enabled")]
    pub enabled: bool,

    /// How much memory the responses take that one pod stores. A quantity in
    /// bytes of at least 1Mi. Default `64Mi`.
    #[serde(default = "default_memory")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0",
        "spec.cache.http.memory: write a quantity of at least 1Mi, such as 64Mi or 1Gi",
    ))]
    pub memory: String,

    /// A larger response is passed on and not stored. A quantity in bytes of the
    /// body, at least 1 and at most `memory`. Default `1Mi`.
    #[serde(default = "default_max_object_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('1')) >= 0",
        "spec.cache.http.maxObjectSize: write a quantity of at least 1, such as 1Mi",
    ))]
    pub max_object_size: String,

    /// What holds for which requests; the first rule that matches a request
    /// counts, and where none does the response alone decides. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<HttpRule>,
}

/// What holds for some requests: those that match all of `paths`, `methods` and
/// `headers` that are written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "has(self.paths) || has(self.methods) || has(self.headers) || has(self.ignoredQueryParameters) || has(self.cookies) || has(self.tags) || self.bypass || has(self.preset) || has(self.ttl) || has(self.staleWhileRevalidate) || has(self.staleIfError)",
        "spec.cache.http.rules: a rule needs something to match on or to do; write for example paths: [\"/static/*\"] and preset: StaticAssets",
    ),
    validation = rule(
        "!has(self.preset) || !has(self.ttl)",
        "spec.cache.http.rules: write preset or ttl; StaticAssets is a ttl of 168h, and ApiResponses of 1h",
    ),
    validation = rule(
        "!self.override || has(self.preset) || has(self.ttl)",
        "spec.cache.http.rules: override needs to know how long responses are fresh; write ttl or preset, or remove override",
    ),
    validation = rule(
        "!self.bypass || !(has(self.ignoredQueryParameters) || has(self.cookies) || has(self.tags) || has(self.preset) || has(self.ttl) || has(self.staleWhileRevalidate) || has(self.staleIfError))",
        "spec.cache.http.rules: what bypasses the cache is not stored; remove bypass, or what the rule says of stored responses",
    ),
)]
pub struct HttpRule {
    /// Paths of the request, without the query; `*` stands for any text, as in
    /// `/static/*` or `*.css`. Default, where nothing is written: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 512)))]
    #[x_kube(validation = rule(
        "self.all(path, path.matches('^[/*][^?#]*$'))",
        "spec.cache.http.rules: paths begin with '/' or '*' and have no query, such as /static/* or *.css",
    ))]
    pub paths: Vec<String>,

    /// Methods of the request, GET or HEAD; what others ask for is never
    /// answered from the cache. Default, where nothing is written: both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 2))]
    pub methods: Vec<RequestMethod>,

    /// Fields that the request has, all of them. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub headers: Vec<HeaderMatch>,

    /// Whether these requests go past the cache. Default false.
    #[serde(default)]
    pub bypass: bool,

    /// How long responses are fresh that do not say so themselves, by what they
    /// are: `StaticAssets` 168h (7 days), `ApiResponses` 1h. Unset: what `ttl`
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<HttpPreset>,

    /// How long responses are fresh that do not say so themselves. A duration
    /// such as `90s` or `168h`, 8760h (a year) at most, rounded up to whole
    /// seconds. Unset: what `preset` says, else what HTTP lets a cache assume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::long_duration_rule("spec.cache.http.rules: ttl"))]
    pub ttl: Option<String>,

    /// Whether `ttl` or `preset` also counts where a response of status 200 says
    /// something else, be it that it is private or not to be stored. Responses to
    /// requests with `Authorization` are stored only if they say that they are
    /// for all, and cookies that a response sets reach only who has asked.
    /// Default false.
    #[serde(default, rename = "override")]
    pub overrides: bool,

    /// How long after it was fresh a response is used while it is asked for anew
    /// (RFC 5861), where it does not say so itself. A duration, 8760h at most,
    /// rounded up to whole seconds. Unset: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::long_duration_rule("spec.cache.http.rules: staleWhileRevalidate"))]
    pub stale_while_revalidate: Option<String>,

    /// How long after it was fresh a response is used where the application does
    /// not answer or answers with a server error (RFC 5861), where it does not say
    /// so itself. A duration, 8760h at most, rounded up to whole seconds. Unset:
    /// not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::long_duration_rule("spec.cache.http.rules: staleIfError"))]
    pub stale_if_error: Option<String>,

    /// Query parameters that change nothing in the response; `*` at the end of a
    /// name stands for all that begin so, as in `utm_*`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = rule(
        "self.all(name, name.matches('^[^*&=#?]*[*]?$'))",
        "spec.cache.http.rules: ignoredQueryParameters are names of parameters, with * at the end for all that begin so, such as utm_*",
    ))]
    pub ignored_query_parameters: Vec<String>,

    /// The cookies that responses may depend on. All others are taken out of the
    /// request before the application sees it, so that users with different ones
    /// share a response; `[]` takes out all. Unset: the application sees all of
    /// them, and its responses say whether they depend on them (`Vary`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = rule(
        "self.all(name, name.matches('^[-A-Za-z0-9!#$%&*+.^_|~]+$'))",
        "spec.cache.http.rules: cookies are names of cookies, without their values, such as lang",
    ))]
    pub cookies: Option<Vec<String>>,

    /// Tags by which the stored responses can be purged, beside their own
    /// (`Cache-Tag`, `Surrogate-Key`). Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = rule(
        "self.all(tag, tag.matches('^[!-+--~]+$'))",
        "spec.cache.http.rules: tags are of visible ASCII characters without commas, such as products",
    ))]
    pub tags: Vec<String>,
}

/// A method of requests that the cache answers.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum RequestMethod {
    /// GET.
    Get,
    /// HEAD, which is answered with what is stored of a GET.
    Head,
}

/// A field that a request has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Its name, in any case of its letters.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rule(
        "self.matches('^[-A-Za-z0-9!#$%&*+.^_|~]+$')",
        "spec.cache.http.rules: the name of a header is without ':' and spaces, such as X-Preview",
    ))]
    pub name: String,

    /// Its value, to the letter. Unset: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
}

/// How long responses of a kind are fresh.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpPreset {
    /// What changes its name when it changes: 7 days.
    StaticAssets,
    /// What is computed: an hour.
    ApiResponses,
}

impl HttpPreset {
    /// How long responses are fresh, in seconds.
    #[must_use]
    pub fn ttl_seconds(self) -> u64 {
        const HOUR: u64 = 60 * 60;
        match self {
            Self::StaticAssets => 7 * 24 * HOUR,
            Self::ApiResponses => HOUR,
        }
    }
}

fn default_enabled() -> bool {
    true
}

fn default_memory() -> String {
    "64Mi".to_owned()
}

fn default_max_object_size() -> String {
    "1Mi".to_owned()
}
