//! Rules by which a double misbehaves.

use std::{sync::Mutex, time::Duration};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use tokio::sync::watch;

use super::wire::Connection;

/// What befalls a request which a [`Fault`] picks.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answered with this status and an error of the service's own shape; nothing is applied.
    Status(u16),
    /// Answered with exactly this; nothing is applied.
    Reply {
        status: u16,
        content_type: &'static str,
        body: String,
    },
    /// The connection is closed before the request is applied.
    DropBefore,
    /// The request is applied, and the connection closed instead of answering.
    DropAfter,
    /// Applied and answered after this long.
    Delay(Duration),
    /// Applied and answered once this says so.
    Hold(watch::Receiver<bool>),
}

/// One rule: which requests, how often, and what happens to them.
#[derive(Clone, Debug)]
pub struct Fault {
    method: String,
    prefix: String,
    when: When,
    action: Action,
    /// Matching requests so far.
    seen: u64,
}

#[derive(Clone, Debug)]
enum When {
    Always,
    Nth(u64),
    First(u64),
    Rate { share: f64, state: u64 },
}

impl Fault {
    /// Hits every request with this method (`*`: any) whose target begins with `prefix`. What a
    /// target is, the double says.
    pub fn on(method: &str, prefix: &str, action: Action) -> Self {
        Self {
            method: method.to_owned(),
            prefix: prefix.to_owned(),
            when: When::Always,
            action,
            seen: 0,
        }
    }

    /// Only the n-th matching request, counted from 1.
    pub fn nth(self, n: u64) -> Self {
        let when = When::Nth(n);
        Self { when, ..self }
    }

    /// Only the first `n` matching requests.
    pub fn first(self, n: u64) -> Self {
        let when = When::First(n);
        Self { when, ..self }
    }

    /// A share (0 to 1) of the matching requests; the same seed picks the same ones again.
    pub fn rate(self, share: f64, seed: u64) -> Self {
        let when = When::Rate { share, state: seed };
        Self { when, ..self }
    }

    fn matches(&self, method: &str, target: &str) -> bool {
        (self.method == "*" || self.method == method) && target.starts_with(&self.prefix)
    }

    fn fires(&mut self) -> bool {
        self.seen += 1;
        match &mut self.when {
            When::Always => true,
            When::Nth(n) => self.seen == *n,
            When::First(n) => self.seen <= *n,
            When::Rate { share, state } => draw(state) < *share,
        }
    }
}

/// The next number in 0..1 of a splitmix64 sequence.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The rules of one double.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.0.lock().unwrap().push(fault);
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Answers a request as the rules say, where `apply` carries it out and `refuse` is the
    /// service's own form of an error. Also gives the status, unless the connection was cut.
    pub async fn answer(
        &self,
        (method, target): (&str, &str),
        connection: &Connection,
        refuse: impl FnOnce(StatusCode) -> Response,
        apply: impl FnOnce() -> Response,
    ) -> (Response, Option<u16>) {
        let (waits, action) = self.pick(method, target);
        for wait in waits {
            match wait {
                Action::Delay(time) => tokio::time::sleep(time).await,
                // If the test that held it is gone, the request goes on.
                Action::Hold(mut opened) => _ = opened.wait_for(|opened| *opened).await,
                _ => {}
            }
        }
        let known = |status| StatusCode::from_u16(status).expect("a status in the fault rule");
        let cut = matches!(action, Some(Action::DropBefore | Action::DropAfter));
        let response = match action {
            Some(Action::Status(status)) => refuse(known(status)),
            Some(Action::Reply {
                status,
                content_type,
                body,
            }) => (known(status), [(header::CONTENT_TYPE, content_type)], body).into_response(),
            // Never seen by the client.
            Some(Action::DropBefore) => StatusCode::OK.into_response(),
            Some(Action::DropAfter | Action::Delay(_) | Action::Hold(_)) | None => apply(),
        };
        if cut {
            connection.cut();
        }
        let status = response.status().as_u16();
        (response, (!cut).then_some(status))
    }

    /// What a request waits for, and what then happens to it.
    fn pick(&self, method: &str, target: &str) -> (Vec<Action>, Option<Action>) {
        let mut waits = Vec::new();
        let mut action = None;
        for fault in self.0.lock().unwrap().iter_mut() {
            // Every matching rule counts the request, also when an earlier one decides it.
            if !fault.matches(method, target) || !fault.fires() {
                continue;
            }
            match &fault.action {
                Action::Delay(_) | Action::Hold(_) => waits.push(fault.action.clone()),
                other => action = action.or_else(|| Some(other.clone())),
            }
        }
        (waits, action)
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Fault, Faults};

    fn hits(fault: Fault, requests: usize) -> Vec<bool> {
        let faults = Faults::default();
        faults.add(fault);
        (0..requests)
            .map(|_| faults.pick("PUT", "raw/a").1.is_some())
            .collect()
    }

    #[test]
    fn a_rule_picks_by_method_prefix_and_count() {
        let fault = || Fault::on("PUT", "raw/", Action::Status(503));
        assert_eq!(hits(fault(), 2), [true, true]);
        assert_eq!(hits(fault().nth(2), 3), [false, true, false]);
        assert_eq!(hits(fault().first(2), 3), [true, true, false]);
        assert_eq!(hits(Fault::on("GET", "", Action::DropBefore), 1), [false]);
        assert_eq!(
            hits(Fault::on("*", "flattened/", Action::DropBefore), 1),
            [false]
        );
    }

    #[test]
    fn a_rate_is_about_right_and_repeats_with_its_seed() {
        let fault = |seed| Fault::on("*", "", Action::DropAfter).rate(0.2, seed);
        let first = hits(fault(7), 1000);
        let count = first.iter().filter(|hit| **hit).count();
        assert!((150..250).contains(&count), "{count} of 1000");
        assert_eq!(first, hits(fault(7), 1000));
        assert_ne!(first, hits(fault(8), 1000));
    }
}
