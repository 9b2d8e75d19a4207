//! What becomes of a request: answered from the cache, or by the application.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_UNMODIFIED_SINCE, RANGE,
    },
    request,
    uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use parking_lot::RwLock;
use quick_cache::sync::Cache;

use super::{
    body::Body,
    edge::request::is_host,
    flights::{Flights, PATIENCE, Turn},
    places::Places,
    route::{Head, Route, keep_keyed},
    share::{Leave, Levels, Share, Way},
};
use crate::{
    settings::{HttpCache, Redis, Rule},
    sidecar::{
        access_log::AccessLog,
        cache::{
            NotStored, RequestDirectives, Stored,
            cache_status::{Forwarded, Level},
            is_permitted,
            key::Key,
            reuse::{ByRule, Reuse},
        },
        figures::Figures,
        memory::{Found, Memory},
        redis::{Orders, Shared},
        room::Room,
        upstream::{Fault, Origin},
    },
};

/// Of so many keys it is remembered why nothing was stored.
const UNSTORED: usize = 512;
/// Of none that are longer.
const LONGEST_UNSTORED: usize = 1024;

/// The cache in front of the application.
pub struct Front {
    settings: RwLock<Arc<HttpCache>>,
    draining: AtomicBool,
    places: Places,
    pub(super) levels: Levels,
    pub(super) origin: Origin,
    pub(super) flights: Flights,
    pub(super) room: Room,
    pub(super) figures: Figures,
    /// Why the last answer to a key was not stored, and when that was; of the last of these keys.
    pub(super) unstored: Cache<Key, (NotStored, Instant)>,
    access_log: AccessLog,
}

/// A request that may be answered from the cache.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) target: PathAndQuery,
    pub(super) parts: request::Parts,
    pub(super) directives: RequestDirectives,
    pub(super) rule: Option<Held>,
    pub(super) peer: IpAddr,
    pub(super) scheme: &'static str,
    pub(super) host: String,
}

/// A rule of the settings, held without a copy: a request may outlive them.
#[derive(Clone)]
pub(super) struct Held {
    settings: Arc<HttpCache>,
    index: usize,
}

impl Held {
    pub(super) fn of(settings: &Arc<HttpCache>, rule: &Rule) -> Option<Self> {
        let index = settings.rules.iter().position(|other| std::ptr::eq(other, rule))?;
        Some(Self { settings: settings.clone(), index })
    }
}

impl Deref for Held {
    type Target = Rule;

    fn deref(&self) -> &Rule {
        // It was found there, and settings that are held do not change.
        &self.settings.rules[self.index]
    }
}

impl Asked {
    /// What the rule for it says of what is stale.
    pub(super) fn by_rule(&self) -> ByRule {
        ByRule::of(self.rule.as_deref())
    }

    /// What a stored response is good for, for this.
    pub(super) fn reuse(&self, stored: &Stored, now: Timestamp) -> Reuse {
        if self.is_of_a_user() && !self.is_for_users(stored) {
            return Reuse::Validate;
        }
        stored.reuse(&self.directives, self.by_rule(), now)
    }

    /// Whether it says who asks.
    pub(super) fn is_of_a_user(&self) -> bool {
        self.parts.headers.contains_key(COOKIE) || self.parts.headers.contains_key(AUTHORIZATION)
    }

    /// Whether a stored response says that it is for all, or a rule does. To guess (RFC 9111 §4.2.2)
    /// is for requests that do not say who asks.
    pub(super) fn is_for_users(&self, stored: &Stored) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.ttl.is_some())
            || is_permitted(&stored.headers(), &stored.directives.directives())
    }
}

impl Front {
    /// In front of the application at `app_port`.
    #[must_use]
    pub fn new(settings: HttpCache, app_port: u16) -> Arc<Self> {
        Self::before(settings, Origin::at(app_port))
    }

    /// In front of the application, wherever that is asked.
    #[must_use]
    pub fn before(settings: HttpCache, origin: Origin) -> Arc<Self> {
        let memory = Arc::new(Memory::new(settings.memory, settings.max_object));
        let room = Room::beside(settings.memory, settings.max_object);
        Self::with(settings, origin, Levels { memory, shared: None }, room)
    }

    /// The same, and what is stored is shared in a Redis. It is waited for `lookup` long by a request.
    #[must_use]
    pub fn sharing(
        settings: HttpCache,
        origin: Origin,
        redis: &Redis,
        lookup: Duration,
        orders: Orders,
    ) -> Arc<Self> {
        let memory = Arc::new(Memory::new(settings.memory, settings.max_object));
        // Before the first purge comes.
        memory.go_by(&settings.rules);
        let room = Room::beside(settings.memory, settings.max_object);
        let shared = Some(Shared::start(redis, memory.clone(), room.clone(), lookup, orders));
        Self::with(settings, origin, Levels { memory, shared }, room)
    }

    fn with(settings: HttpCache, origin: Origin, levels: Levels, room: Room) -> Arc<Self> {
        levels.memory.go_by(&settings.rules);
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            draining: AtomicBool::new(false),
            places: Places::default(),
            levels,
            origin,
            flights: Flights::default(),
            room,
            figures: Figures::default(),
            unstored: Cache::new(UNSTORED),
            access_log: AccessLog::default(),
        })
    }

    /// The application.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Goes by other settings from here on; requests that are under way end by those that they began with.
    pub fn reload(&self, settings: HttpCache) {
        self.levels.memory.resize(settings.memory);
        self.room.resize(settings.memory, settings.max_object);
        self.levels.memory.go_by(&settings.rules);
        *self.settings.write() = Arc::new(settings);
    }

    /// How much is stored at most, and how large a response may be that is.
    #[must_use]
    pub fn stores(&self) -> (u64, u64) {
        let settings = self.settings();
        (settings.memory, self.levels.memory.largest(settings.max_object))
    }

    pub(super) fn settings(&self) -> Arc<HttpCache> {
        self.settings.read().clone()
    }

    /// Takes so many connections at once; more wait in the listener's queue. Those that are there stay.
    pub fn limit_connections(&self, most: u64) {
        self.places.change(most);
    }

    /// How many that are.
    #[must_use]
    pub fn most_connections(&self) -> u64 {
        self.places.count()
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// From here on each answer is the last of its connection: the next request is for another replica.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What is stored.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.levels.memory
    }

    /// What is counted of requests.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Where requests are written down.
    #[must_use]
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// What the replicas share, if they do.
    #[must_use]
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.levels.shared.as_ref()
    }

    /// An answer to a key is not stored.
    pub(super) fn not_stored(&self, key: &Key, why: NotStored) {
        self.figures.not_stored(why);
        if key.as_str().len() <= LONGEST_UNSTORED {
            self.unstored.insert(key.clone(), (why, Instant::now()));
        }
    }

    /// Answers a request of `peer`.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let Some(host) = host(&request) else {
            return refusal(StatusCode::BAD_REQUEST, "a request has to have one Host");
        };
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let settings = self.settings();
        let head = Head {
            method: request.method(),
            host,
            target: &target,
            headers: request.headers(),
            // It is not in the key, and the application may go by it.
            has_body: !request.body().is_end_stream(),
        };
        let route = Route::of(&settings.rules, &head);
        if let Some(past) = route.past {
            return self.pass_on(request, &route.host, &target, peer, past.forwarded()).await;
        }
        let (target, key) = route.keyed(&target);
        let directives = RequestDirectives::of(request.headers());
        let (mut parts, _) = request.into_parts();
        keep_keyed(&mut parts.headers, &parts.method, route.rule);
        let Route { scheme, host, rule, .. } = route;
        let rule = rule.and_then(|rule| Held::of(&settings, rule));
        self.cached(Asked { key, target, parts, directives, rule, peer, scheme, host }).await
    }

    /// From the cache, if it has something that may be used.
    async fn cached(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        let mut began = None;
        loop {
            let now = Timestamp::now();
            let found = self.levels.memory.get(&asked.key, &asked.parts.headers);
            let (why, stale) = match found {
                Found::Stored(stored) => match asked.reuse(&stored, now) {
                    reuse @ (Reuse::Fresh | Reuse::WhileRevalidated) => {
                        return self.hit(&stored, reuse, &asked, Level::Memory, now);
                    }
                    reuse => (why_not(&stored, reuse, now), Some((stored, reuse))),
                },
                Found::OtherVariants => (Forwarded::VaryMiss, None),
                Found::Nothing => (Forwarded::UriMiss, None),
            };
            // From here on it takes time, in which what is stale may be purged: it is looked up once more,
            // after what counts as the beginning.
            let Some((began, until)) = began else {
                began = Some((self.levels.memory.begin(), tokio::time::Instant::now() + PATIENCE));
                continue;
            };
            let (flight, way) = if self.is_for_others(&asked, stale.as_ref()) {
                match self.flights.turn(&asked.key, asked.is_of_a_user(), until).await {
                    Turn::LookAgain => continue,
                    Turn::Ask(flight) if why == Forwarded::Request => (Some(flight), Some(Way::Hurry)),
                    Turn::Ask(flight) => (Some(flight), Some(Way::Lead)),
                    Turn::Failed(answered) => {
                        if let Some(answer) =
                            self.instead(&asked, stale.as_ref(), began, answered, Timestamp::now())
                        {
                            return answer;
                        }
                        (None, Some(Way::Look))
                    }
                    // Nothing comes of it for others, or Redis has been asked already.
                    Turn::Alone => (None, None),
                }
            } else {
                (None, Some(Way::Look))
            };
            let share = match way {
                Some(way) => self.share(&asked, stale, way, until).await,
                None => Share::Ask { stale, lease: None, is_asked_elsewhere: false },
            };
            let (stale, lease) = match share {
                Share::Answer(stored, reuse) => {
                    drop(flight);
                    return self.hit(&stored, reuse, &asked, Level::Redis, Timestamp::now());
                }
                Share::Ask { stale, lease, .. } => (stale, lease),
            };
            let why = match &stale {
                Some((stored, reuse)) => why_not(stored, *reuse, Timestamp::now()),
                None => why,
            };
            return if asked.directives.only_if_cached {
                // RFC 9111 §5.2.1.7.
                refusal(StatusCode::GATEWAY_TIMEOUT, "it is not in the cache")
            } else if asked.parts.method == Method::HEAD {
                self.head(&asked, why, stale, began).await
            } else {
                self.ask(&asked, why, stale, began, Leave { flight, lease }).await
            };
        }
    }

    /// Whether others can be answered with what the application answers to this.
    fn is_for_others(&self, asked: &Asked, stale: Option<&(Arc<Stored>, Reuse)>) -> bool {
        /// With nothing stored, these go to the application as they are, and its answer is for their client.
        const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];
        let has_condition =
            stale.is_none() && CONDITIONS.iter().any(|name| asked.parts.headers.contains_key(name));
        // Nobody waits for the part that another has asked for.
        let is_part = |(stored, _): &(Arc<Stored>, _)| stored.status == StatusCode::PARTIAL_CONTENT;
        let asks_for_part = asked.parts.headers.contains_key(RANGE) && stale.is_none_or(is_part);
        // Nor for what is not to be kept, so that nobody can hold up others by asking so.
        let is_kept = !asked.directives.only_if_cached && !asked.directives.no_store;
        let is_kept = is_kept && self.settings().max_object > 0;
        is_kept && asked.parts.method != Method::HEAD && !asks_for_part && !has_condition
    }

    fn hit(
        self: &Arc<Self>,
        stored: &Stored,
        reuse: Reuse,
        asked: &Asked,
        level: Level,
        now: Timestamp,
    ) -> Response<Body> {
        let answer = hit(stored, asked, level, now);
        if let Some(shared) = &self.levels.shared {
            shared.used(&asked.key, &stored.secondary);
        }
        if reuse == Reuse::WhileRevalidated {
            self.revalidate(asked);
        }
        answer
    }
}

/// Why what is stored is not enough for a request.
pub(super) fn why_not(stored: &Stored, reuse: Reuse, now: Timestamp) -> Forwarded {
    if reuse == Reuse::Validate && stored.age(now) < stored.lifetime {
        Forwarded::Request
    } else {
        Forwarded::Stale
    }
}

pub(super) fn hit(stored: &Stored, asked: &Asked, level: Level, now: Timestamp) -> Response<Body> {
    stored.answer(&asked.parts.method, &asked.parts.headers, level, now).map(Body::from)
}

/// The one host of a request (RFC 9110 §7.2).
fn host(request: &Request<Incoming>) -> Option<&str> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next().map(|line| line.to_str().ok());
    if lines.next().is_some() {
        return None;
    }
    let host = match (request.uri().authority(), line) {
        // What stands in the target counts (RFC 9112 §3.2.2).
        (Some(authority), _) => authority.as_str(),
        (None, Some(line)) => line?,
        (None, None) => return None,
    };
    is_host(host.as_bytes()).then_some(host)
}

fn refusal(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

pub(super) fn unreachable_app(fault: &Fault) -> Response<Body> {
    tracing::debug!(%fault, "the application has not answered");
    refusal(fault.status(), fault.words())
}
