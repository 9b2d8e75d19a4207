//! Asking the application for what is not in the cache, and keeping what it answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Version,
    header::{AUTHORIZATION, CONTENT_LENGTH, IF_RANGE, RANGE, SET_COOKIE, TRANSFER_ENCODING},
    response,
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Front,
    body::Body,
    front::{Asked, hit, unreachable_app},
    kept::{Came, Kept},
    origin::prepare,
    share::{Leave, Share, Way},
};
use crate::{
    settings::Rule,
    sidecar::{
        cache::{
            Exchange, NotStored, ResponseDirectives, Stored,
            cache_status::{CACHE_STATUS, Forwarded, Level, Status},
            cookies::vary_by_cookies,
            head::{Effect, effect},
            hop::remove_hop_by_hop,
            key::Key,
            kind::is_page_by_name_of_file,
            may_store,
            purges::Began,
            reuse::Reuse,
            selection::has_double,
            stored, tags,
            validation::{is_about, make_conditional, update},
        },
        memory::Found,
        upstream::body::Answer,
    },
};

impl Asked {
    /// Says in a response that is stored by which cookies it varies, if a rule leaves the application some.
    fn mark(&self, response: &mut HeaderMap) {
        let cookies = self.rule.as_ref().and_then(|rule| rule.cookies.as_ref());
        if cookies.is_some_and(|names| !names.is_empty()) {
            vary_by_cookies(response);
        }
    }
}

impl Front {
    /// Asks the application for the whole, and keeps what it answers if it may.
    pub(super) async fn ask(
        self: &Arc<Self>,
        asked: &Asked,
        why: Forwarded,
        stale: Option<(Arc<Stored>, Reuse)>,
        began: Began,
        leave: Leave,
    ) -> Response<Body> {
        // What was purged while this waited is not asked about, and what is asked for now is after the purge.
        let present = self.levels.memory.begin();
        let stale = stale.filter(|(stored, _)| !self.is_gone(asked, stored, began));
        let began = if stale.is_some() { began } else { present };
        let mut headers = asked.parts.headers.clone();
        prepare(&mut headers, &asked.host, asked.scheme, asked.peer);
        if let Some((stored, _)) = &stale {
            // Of a whole the whole is asked for; the part, or that the client has it, is told from it.
            if stored.status != StatusCode::PARTIAL_CONTENT {
                headers.remove(RANGE);
            }
            headers.remove(IF_RANGE);
            make_conditional(&mut headers, &stored.headers());
        }
        let requested = Timestamp::now();
        let answered = self.origin.get(&asked.target, headers).await;
        let exchange = Exchange { requested, received: Timestamp::now() };
        let status = answered.as_ref().ok().map(Response::status);
        if let Some(answer) = self.instead(asked, stale.as_ref(), began, status, exchange.received) {
            leave.fail(status);
            return answer;
        }
        let response = match answered {
            Ok(response) => response,
            Err(fault) => {
                leave.fail(None);
                return unreachable_app(&fault);
            }
        };
        let (parts, body) = response.into_parts();
        match stale {
            Some((stored, _)) if parts.status == StatusCode::NOT_MODIFIED => {
                if is_about(&parts.headers, &stored.headers()) && !self.is_gone(asked, &stored, began) {
                    return self.validated(asked, &stored, &parts, exchange, began, leave);
                }
                // It is about something that is not here (RFC 9111 §4.3.4), or not any more, and the client
                // did not ask for it.
                Box::pin(self.ask(asked, why, None, began, leave)).await
            }
            _ => self.keep(asked, parts, body, exchange, began, why, leave),
        }
    }

    /// What is stale, where it answers in place of what the application did, or did not (RFC 5861 §4).
    pub(super) fn instead(
        &self,
        asked: &Asked,
        stale: Option<&(Arc<Stored>, Reuse)>,
        began: Began,
        answered: Option<StatusCode>,
        now: Timestamp,
    ) -> Option<Response<Body>> {
        let (stored, _) = stale.filter(|(_, reuse)| answers_instead(*reuse, answered))?;
        (!self.is_gone(asked, stored, began)).then(|| hit(stored, asked, Level::Memory, now))
    }

    /// Whether what was stored is purged by now.
    fn is_gone(&self, asked: &Asked, stored: &Stored, began: Began) -> bool {
        self.levels.memory.is_gone_since(began, &asked.key, &stored.tags)
    }

    /// What was stored still holds (RFC 9111 §4.3.4).
    fn validated(
        &self,
        asked: &Asked,
        stored: &Stored,
        parts: &response::Parts,
        exchange: Exchange,
        began: Began,
        leave: Leave,
    ) -> Response<Body> {
        let mut headers = stored.headers();
        update(&mut headers, &parts.headers);
        asked.mark(&mut headers);
        let origin = Self::origin_of(asked, exchange, stored.tags.to_vec());
        let now = ResponseDirectives::of(&headers);
        let allowed = Self::allowed(asked, stored.status, &headers);
        let is_renewed = allowed.is_ok() && !parts.headers.contains_key(SET_COOKIE);
        let renewed = Stored::new(stored.status, headers, stored.body.clone(), origin);
        let answer =
            renewed.answer(&asked.parts.method, &asked.parts.headers, Level::Memory, exchange.received);
        let mut answer = answer.map(Body::from);
        for cookie in parts.headers.get_all(SET_COOKIE) {
            answer.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        // Where it is not renewed, what it tells this user is not for others: they ask for themselves.
        if is_renewed {
            let leave = leave.for_others(&renewed, asked.by_rule(), exchange.received);
            self.levels.keep(asked.key.clone(), asked.by_rule(), renewed, began, leave);
        } else {
            match allowed {
                Err(NotStored::OfThisRequest) => leave.let_go(),
                _ => leave.give_up(stored.status, asked.is_of_a_user()),
            }
            if now.private || now.no_store {
                // It was for all, and is not any more. Nobody waits for the others to know.
                drop(self.levels.forget(vec![asked.key.clone()]));
            }
        }
        let status = Status::Forwarded {
            why: Forwarded::Stale,
            answered: Some(StatusCode::NOT_MODIFIED),
            stored: is_renewed,
        };
        answer.headers_mut().remove(CACHE_STATUS);
        status.add_to(answer.headers_mut());
        answer
    }

    fn origin_of(asked: &Asked, exchange: Exchange, tags: Vec<String>) -> stored::Origin<'_> {
        let default_lifetime = asked.rule.as_deref().and_then(Rule::ttl);
        let lifetime = default_lifetime.filter(|_| asked.rule.as_ref().is_some_and(|rule| rule.overrides));
        stored::Origin { request: &asked.parts.headers, exchange, lifetime, default_lifetime, tags }
    }

    /// Passes a response on, and keeps it on its way if it may be.
    #[allow(clippy::too_many_arguments)]
    fn keep(
        self: &Arc<Self>,
        asked: &Asked,
        parts: response::Parts,
        body: Answer,
        exchange: Exchange,
        began: Began,
        why: Forwarded,
        leave: Leave,
    ) -> Response<Body> {
        let tags = self.storable(asked, &parts);
        let why_not = tags.as_ref().err().copied();
        if let Some(why) = why_not {
            self.not_stored(&asked.key, why);
        }
        let is_kept = tags.is_ok();
        let length = length(&parts.headers);
        let mut response = Response::from_parts(parts, ());
        let mut leave = Some(leave);
        let kept = tags.ok().zip(leave.take_if(|_| is_kept)).map(|(tags, leave)| {
            asked.mark(response.headers_mut());
            let mut headers = response.headers().clone();
            // Where a rule lets it be kept, the cookie is still for the one who asked.
            headers.remove(SET_COOKIE);
            let status = response.status();
            let origin = Self::origin_of(asked, exchange, tags);
            let (levels, key, rule) = (self.levels.clone(), asked.key.clone(), asked.by_rule());
            let stored = Stored::new(status, headers, Bytes::new(), origin);
            let leave = leave.for_others(&stored, rule, exchange.received);
            // Before it is here: nobody waits for what will not be found.
            let size = stored.size() + usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX / 2);
            let leave = leave.for_room(levels.memory.has_room_for(&key, size));
            let is_of_a_user = asked.is_of_a_user();
            move |came| match came {
                Came::Whole(body) => levels.keep(key, rule, Stored { body, ..stored }, began, leave),
                not_kept => leave.without(&not_kept, stored.status, is_of_a_user),
            }
        });
        // It is for this client alone.
        match leave {
            // Nor does it say what others get.
            Some(leave) if why_not == Some(NotStored::OfThisRequest) => leave.let_go(),
            Some(leave) => leave.give_up(response.status(), asked.is_of_a_user()),
            None => {}
        }
        remove_hop_by_hop(response.headers_mut());
        let status = Status::Forwarded { why, answered: None, stored: is_kept };
        status.add_to(response.headers_mut());
        response.map(|()| match kept {
            Some(keep) => Body::Kept(self.take(body, asked.key.clone(), keep)),
            None => Body::Streamed(body),
        })
    }

    /// Takes a body that is kept where it comes whole and is not too large.
    fn take(self: &Arc<Self>, body: Answer, key: Key, keep: impl FnOnce(Came) + Send + 'static) -> Kept {
        let settings = self.settings();
        let most = usize::try_from(settings.max_object).unwrap_or(usize::MAX);
        let front = self.clone();
        Kept::new(body, most, &self.room, move |came| {
            if let Came::NotStored(why) = came {
                front.not_stored(&key, why);
            }
            keep(came);
        })
    }

    /// Whether the response, or a rule in its place, lets it be kept for others.
    fn allowed(asked: &Asked, status: StatusCode, headers: &HeaderMap) -> Result<(), NotStored> {
        // Not even by a rule: all others would get it.
        if has_double(&asked.parts.headers, headers) {
            return Err(NotStored::OfThisRequest);
        }
        let is_page = is_page_by_name_of_file(asked.target.path(), headers);
        let told = asked.rule.as_ref().filter(|rule| rule.ttl.is_some());
        let gives_time = told.filter(|_| !is_page);
        let is_anonymous = !asked.parts.headers.contains_key(AUTHORIZATION);
        // RFC 9111 §3.5 holds for it still: credentials are of one user.
        if gives_time.is_some_and(|rule| rule.overrides) && status == StatusCode::OK && is_anonymous {
            return Ok(());
        }
        let directives = ResponseDirectives::of(headers);
        match may_store(&Method::GET, &asked.parts.headers, status, headers, &directives) {
            // Who gives these paths a time has said that their pages are for all.
            Err(NotStored::Cookie) if gives_time.is_some() => Ok(()),
            Err(_) if told.is_some() && is_page => Err(NotStored::NameOfFile),
            allowed => allowed,
        }
    }

    /// The tags of a response that may be kept.
    fn storable(&self, asked: &Asked, parts: &response::Parts) -> Result<Vec<String>, NotStored> {
        Self::allowed(asked, parts.status, &parts.headers)?;
        if !has_end(parts) {
            return Err(NotStored::NoEnd);
        }
        if length(&parts.headers).is_some_and(|length| length > self.settings().max_object) {
            return Err(NotStored::TooLarge);
        }
        let mut tags = tags::tags(&parts.headers).map_err(|_| NotStored::Unmarked)?;
        tags.extend(asked.rule.iter().flat_map(|rule| rule.tags.iter().cloned()));
        Ok(tags)
    }

    /// Asks for it anew while the stored response answers (RFC 5861 §3).
    pub(super) fn revalidate(self: &Arc<Self>, asked: &Asked) {
        // An application that is in trouble is not asked with each request.
        if self.flights.is_paused(&asked.key) {
            return;
        }
        // One is enough, and none waits for it: at each hit there would be another.
        let Some(flight) = self.flights.begin(&asked.key) else { return };
        let began = self.levels.memory.begin();
        // Only what is there still: it may have been purged since it was looked up.
        let Found::Stored(stored) = self.levels.memory.get(&asked.key, &asked.parts.headers) else { return };
        let front = self.clone();
        let asked = asked.clone();
        tokio::spawn(async move {
            let before = stored.clone();
            let stale = Some((stored, Reuse::Validate));
            // Another replica may have renewed it, or be about to.
            let share = front.share(&asked, stale, Way::Hurry, Instant::now()).await;
            let Share::Ask { stale, lease, is_asked_elsewhere: false } = share else { return };
            let leave = Leave { flight: Some(flight), lease };
            let answer = front.ask(&asked, Forwarded::Stale, stale, began, leave).await;
            // To its end, or it would not be kept.
            let _ = tokio::time::timeout(Duration::from_mins(1), answer.into_body().take_while_kept()).await;
            let now = front.levels.memory.get(&asked.key, &asked.parts.headers);
            if matches!(now, Found::Stored(now) if Arc::ptr_eq(&now, &before)) {
                front.flights.pause(&asked.key);
            }
        });
    }

    /// Passes a HEAD on; the answer tells of what is stored, too.
    pub(super) async fn head(
        &self,
        asked: &Asked,
        why: Forwarded,
        stale: Option<(Arc<Stored>, Reuse)>,
        began: Began,
    ) -> Response<Body> {
        let mut headers = asked.parts.headers.clone();
        prepare(&mut headers, &asked.host, asked.scheme, asked.peer);
        let requested = Timestamp::now();
        let answered = self.origin.head(&asked.target, headers).await;
        let exchange = Exchange { requested, received: Timestamp::now() };
        let status = answered.as_ref().ok().map(Response::status);
        if let Some(answer) = self.instead(asked, stale.as_ref(), began, status, exchange.received) {
            return answer;
        }
        let mut response = match answered {
            Ok(response) => response,
            Err(fault) => return unreachable_app(&fault),
        };
        if let Some((stored, _)) = &stale {
            self.note_head(asked, stored, &response, exchange, began);
        }
        remove_hop_by_hop(response.headers_mut());
        let status = Status::Forwarded { why, answered: None, stored: false };
        status.add_to(response.headers_mut());
        response.map(Body::Streamed)
    }

    /// Does to what is stored what an answer to HEAD tells of it (RFC 9111 §4.3.5).
    fn note_head(
        &self,
        asked: &Asked,
        stored: &Stored,
        answer: &Response<Answer>,
        exchange: Exchange,
        began: Began,
    ) {
        let told = match effect(answer.status(), answer.headers(), &stored.headers(), stored.body.len()) {
            Effect::Updated => {
                let mut headers = stored.headers();
                update(&mut headers, answer.headers());
                asked.mark(&mut headers);
                // A cookie of this user, or what is for this user alone, is not for the next.
                if answer.headers().contains_key(SET_COOKIE)
                    || Self::allowed(asked, stored.status, &headers).is_err()
                {
                    return;
                }
                let origin = Self::origin_of(asked, exchange, stored.tags.to_vec());
                Stored::new(stored.status, headers, stored.body.clone(), origin)
            }
            Effect::Outdated => Stored { is_purged_softly: true, ..stored.clone() },
            Effect::None => return,
        };
        self.levels.memory.put_in_place_of(stored, asked.key.clone(), told, began);
    }
}

/// Whether the end of its body is told: what ends with the connection may have been cut short (RFC 9112 §8).
fn has_end(parts: &response::Parts) -> bool {
    if parts.version == Version::HTTP_2 || parts.status == StatusCode::NO_CONTENT {
        return true;
    }
    // Where there are codings, the last of them tells, and no length does (RFC 9112 §6.3).
    let codings = parts.headers.get_all(TRANSFER_ENCODING).iter().next_back();
    codings.map_or_else(|| parts.headers.contains_key(CONTENT_LENGTH), ends_chunked)
}

/// Whether the last of some codings is `chunked`, and so their end is told.
fn ends_chunked(codings: &HeaderValue) -> bool {
    let last = codings.as_bytes().rsplit(|byte| *byte == b',').next();
    last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// How long a body says that it is.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Whether what is stored answers in place of what the application did, or did not.
fn answers_instead(reuse: Reuse, answered: Option<StatusCode>) -> bool {
    match answered {
        None => matches!(reuse, Reuse::IfError | Reuse::IfUnreachable),
        Some(status) => reuse == Reuse::IfError && status.is_server_error(),
    }
}
