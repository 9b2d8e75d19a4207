//! A kind that the cluster may not have, or not let the operator see. Its watch begins
//! when it appears.
//!
//! It is looked for once at the start, and from time to time only while a
//! CachedService would have an object of it: a cluster without the kind, and
//! without anybody who asks for it, sees no requests.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::runtime::{reflector::ObjectRef, watcher};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{
    interruptions::{is_forbidden, is_missing},
    watched::{Child, Watched},
};
use crate::api::CachedService;

/// How often it is looked for while somebody would have it.
const PERIOD: Duration = Duration::from_secs(15);
/// How often it is looked for where it may be there and may not be seen: objects of it that are not
/// wanted any more are to go.
const FORBIDDEN_PERIOD: Duration = Duration::from_mins(1);

/// The objects of a kind that the cluster may not have, or not let the operator see.
pub struct Optional<K: Child> {
    /// None while the cluster does not have the kind.
    pub watched: Arc<Watched<K>>,
    present: AtomicBool,
    /// It is not known to be there because the operator may not see it.
    forbidden: AtomicBool,
    /// The CachedServices, with the names of the objects.
    wanted_by: Mutex<HashSet<(ObjectRef<CachedService>, String)>>,
    wanted: Notify,
}

impl<K: Child> Optional<K> {
    /// Not known to be there.
    #[must_use]
    pub fn new(watched: Arc<Watched<K>>) -> Arc<Self> {
        Arc::new(Self {
            watched,
            present: AtomicBool::new(false),
            forbidden: AtomicBool::new(false),
            wanted_by: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// Whether the cluster has the kind.
    pub fn is_present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// Whether the operator may not see it.
    pub fn is_forbidden(&self) -> bool {
        self.forbidden.load(Ordering::Acquire)
    }

    /// A CachedService would have the object `name` of the kind, or not any more.
    pub fn set_wanted(&self, service: &ObjectRef<CachedService>, name: &str, wanted: bool) {
        let mut wanted_by = self.wanted_by.lock();
        let key = (service.clone(), name.to_owned());
        if !wanted {
            wanted_by.remove(&key);
        } else if wanted_by.insert(key) {
            self.wanted.notify_one();
        }
    }

    /// A CachedService is gone.
    pub fn forget(&self, service: &ObjectRef<CachedService>) {
        self.wanted_by.lock().retain(|(by, _)| by != service);
    }

    async fn until_wanted(&self) {
        while self.wanted_by.lock().is_empty() {
            self.wanted.notified().await;
        }
    }
}

/// Follows the kind for ever. `start` begins a watch; `handle` fills the store of
/// `optional`; `appeared` is told who has waited for the kind.
pub async fn follow_optional<K, S>(
    optional: &Optional<K>,
    start: impl Fn() -> S,
    mut handle: impl FnMut(watcher::Result<watcher::Event<K>>),
    appeared: impl Fn(Vec<ObjectRef<CachedService>>),
) where
    K: Child,
    S: Stream<Item = watcher::Result<watcher::Event<K>>>,
{
    let mut is_known = false;
    loop {
        let started = Instant::now();
        let mut is_forbidden_now = false;
        let mut was_told = false;
        let mut events = pin!(start());
        while let Some(event) = events.next().await {
            match event {
                Err(error) if is_missing(&error) => break,
                // A role from before the kind was known must not hold up those who do not want it.
                Err(error) if is_forbidden(&error) && !optional.is_present() => {
                    is_forbidden_now = true;
                    if !optional.forbidden.swap(true, Ordering::AcqRel) {
                        tracing::warn!(kind = %K::kind(&()), %error, "the operator's role does not cover this kind: nothing of it is made or deleted");
                    }
                    break;
                }
                Ok(watcher::Event::InitDone) => {
                    handle(Ok(watcher::Event::InitDone));
                    optional.forbidden.store(false, Ordering::Release);
                    optional.present.store(true, Ordering::Release);
                    appeared(optional.wanted_by.lock().drain().map(|(service, _)| service).collect());
                }
                event => {
                    was_told |= event.is_err();
                    handle(event);
                }
            }
        }
        let was_present = optional.present.swap(false, Ordering::AcqRel);
        optional.forbidden.store(is_forbidden_now, Ordering::Release);
        if !is_known || was_present || was_told {
            // Nothing is there, and that is known. Each time all CachedServices look what that means to them.
            handle(Ok(watcher::Event::Init));
            handle(Ok(watcher::Event::InitDone));
            is_known = true;
        }
        let longest = if is_forbidden_now { FORBIDDEN_PERIOD } else { Duration::MAX };
        let _ = timeout(longest, optional.until_wanted()).await;
        sleep_until(started + PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> watcher::Error {
        let status = Status { code, ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    /// A kind that appears after so many looks; who waited for it when it did.
    async fn looked_at(
        optional: &Optional<ConfigMap>,
        appears_after: usize,
        looks: &AtomicUsize,
    ) -> Vec<ObjectRef<CachedService>> {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let start = || {
            let present = looks.fetch_add(1, Ordering::Relaxed) >= appears_after;
            let first = if present { Ok(watcher::Event::InitDone) } else { Err(refused(404)) };
            stream::iter([Ok(watcher::Event::Init), first]).chain(stream::pending())
        };
        let followed = follow_optional(optional, start, |_| {}, |who| sender.send(who).unwrap());
        tokio::select! {
            () = followed => unreachable!(),
            who = receiver.recv() => who.unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_nobody_wants_is_looked_for_once() {
        let optional = Optional::new(Watched::new().0);
        let looks = AtomicUsize::new(0);
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, looked_at(&optional, usize::MAX, &looks)).await.is_err());
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        assert!(!optional.is_present());
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_may_not_be_seen_is_told_only_after_it_was_seen() {
        let optional = Optional::new(Watched::<ConfigMap>::new().0);
        let told = AtomicUsize::new(0);
        let handle = |event: watcher::Result<_>| {
            told.fetch_add(event.is_err().into(), Ordering::Relaxed);
        };
        let never = || stream::iter([Ok(watcher::Event::Init), Err(refused(403))]);
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, follow_optional(&optional, never, handle, |_| {})).await.is_err());
        assert_eq!((optional.is_present(), told.load(Ordering::Relaxed)), (false, 0));
        assert!(optional.is_forbidden());

        let not_any_more = || {
            let events = [Ok(watcher::Event::Init), Ok(watcher::Event::InitDone), Err(refused(403))];
            stream::iter(events).chain(stream::pending())
        };
        assert!(timeout(hour, follow_optional(&optional, not_any_more, handle, |_| {})).await.is_err());
        assert_eq!((optional.is_present(), told.load(Ordering::Relaxed)), (true, 1));
        assert!(!optional.is_forbidden());
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_kind_is_still_not_there_is_no_news() {
        for code in [403, 404] {
            let optional = Optional::new(Watched::<ConfigMap>::new().0);
            optional.set_wanted(&ObjectRef::new("shop"), "shop", true);
            let (looks, lists) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let start = || {
                looks.fetch_add(1, Ordering::Relaxed);
                stream::iter([Ok(watcher::Event::Init), Err(refused(code))])
            };
            let handle = |event: watcher::Result<_>| {
                lists.fetch_add(matches!(event, Ok(watcher::Event::InitDone)).into(), Ordering::Relaxed);
            };
            let followed = follow_optional(&optional, start, handle, |_| {});
            assert!(timeout(Duration::from_hours(1), followed).await.is_err());
            assert!(looks.load(Ordering::Relaxed) > 10);
            assert_eq!(lists.load(Ordering::Relaxed), 1, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_may_not_be_seen_is_looked_for_though_nobody_wants_it() {
        let optional = Optional::new(Watched::<ConfigMap>::new().0);
        let looks = AtomicUsize::new(0);
        let start = || {
            let first = if looks.fetch_add(1, Ordering::Relaxed) < 2 {
                Err(refused(403))
            } else {
                Ok(watcher::Event::InitDone)
            };
            stream::iter([Ok(watcher::Event::Init), first]).chain(stream::pending())
        };
        let followed = follow_optional(&optional, start, |_| {}, |_| {});
        assert!(timeout(Duration::from_mins(3), followed).await.is_err());
        assert!(optional.is_present() && !optional.is_forbidden());
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_a_kind_is_told_when_it_appears() {
        let optional = Optional::new(Watched::new().0);
        let looks = AtomicUsize::new(0);
        let shop = ObjectRef::new("shop").within("prod");
        optional.set_wanted(&shop, "shop", true);
        let begun = Instant::now();
        assert_eq!(looked_at(&optional, 3, &looks).await, [shop]);
        assert_eq!(begun.elapsed().as_secs(), 45);
        assert!(optional.is_present());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_causes_no_looks() {
        let optional = Optional::new(Watched::new().0);
        let looks = AtomicUsize::new(0);
        let shop = ObjectRef::new("shop").within("prod");
        optional.set_wanted(&shop, "shop-redis", true);
        optional.forget(&shop);
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, looked_at(&optional, usize::MAX, &looks)).await.is_err());
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_want_it_any_more_causes_no_looks() {
        let optional = Optional::new(Watched::new().0);
        let looks = AtomicUsize::new(0);
        let shop = ObjectRef::new("shop").within("prod");
        optional.set_wanted(&shop, "shop", true);
        optional.set_wanted(&shop, "shop", false);
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, looked_at(&optional, usize::MAX, &looks)).await.is_err());
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }
}
