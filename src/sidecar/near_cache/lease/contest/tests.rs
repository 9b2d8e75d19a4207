use std::task::{Context, Poll};

use super::*;

fn contest() -> (Arc<Board>, Arc<Contest>) {
    (Arc::default(), Contest::of(0, Bytes::from_static(b"a")))
}

/// What a member goes on with, if it does.
fn event(member: &mut Member) -> Option<Event> {
    let mut event = std::pin::pin!(member.event());
    match event.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

fn grant(member: &mut Member) -> Grant {
    match event(member) {
        Some(Event::Leads(grant)) => grant,
        _ => panic!("it is not offered the lease"),
    }
}

#[test]
fn who_came_first_is_offered_the_lease_and_who_does_not_take_it_leaves_it_to_the_next() {
    let (board, contest) = contest();
    let holder = Arc::new(Holder::default());
    let mut members = [0; 3].map(|_| contest.join(&board, &Arc::default()).unwrap());
    let mut taken = contest.offer().unwrap();
    drop(grant(&mut members[0]));
    assert!(taken.try_recv().is_err());
    let [_, gone, mut last] = members;
    drop(gone);
    let mut taken = contest.offer().unwrap();
    assert!(!contest.is_led());
    assert!(last.has_waited());
    assert!(grant(&mut last).take(&holder));
    assert_eq!(taken.try_recv(), Ok(()));
    assert!(contest.is_led());
    assert!(contest.offer().is_none(), "nobody waits any more");
    assert!(contest.join(&board, &holder).is_none(), "it does not wait for itself");
}

#[test]
fn who_leads_does_so_until_the_key_is_written_or_its_connection_ends() {
    let (board, contest) = contest();
    for end in [Contest::written as fn(&Contest), Contest::depose, Contest::end] {
        let holder = Arc::new(Holder::default());
        let mut member = contest.join(&board, &holder).unwrap();
        let _taken = contest.offer().unwrap();
        assert!(grant(&mut member).take(&holder));
        drop(member);
        end(&contest);
        assert!(contest.is_idle());
    }
    let holder = Arc::new(Holder::default());
    let mut member = contest.join(&board, &holder).unwrap();
    let _taken = contest.offer().unwrap();
    assert!(grant(&mut member).take(&holder));
    let other = Arc::new(Holder::default());
    other.leave();
    assert!(contest.is_led());
    holder.leave();
    assert!(!contest.is_led());
}

#[test]
fn a_connection_that_has_ended_does_not_lead() {
    let (board, contest) = contest();
    let holder = Arc::new(Holder::default());
    let mut member = contest.join(&board, &holder).unwrap();
    let mut taken = contest.offer().unwrap();
    holder.leave();
    assert!(!grant(&mut member).take(&holder));
    assert!(taken.try_recv().is_err());
    assert!(!contest.is_led());
}

#[test]
fn who_waits_hears_what_happens_and_that_there_is_nothing_to_wait_for() {
    let (board, contest) = contest();
    let mut member = contest.join(&board, &Arc::default()).unwrap();
    assert!(!member.has_waited());
    assert!(event(&mut member).is_none());
    contest.written();
    assert!(matches!(event(&mut member), Some(Event::Written)));
    assert!(event(&mut member).is_none());
    contest.contested();
    assert!(member.has_waited());
    contest.fail();
    assert!(matches!(event(&mut member), Some(Event::Failed)));
}
