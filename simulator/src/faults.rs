//! Faults: how often the simulator fails, and how for a given request.

use std::str::FromStr;

use super::SimulatorError;
use super::world::draw::Draw;

/// The share of requests (0 to 1) that each fault hits. At most one fault hits a request, so the shares add up to 1 at
/// most. The seed and the request's number determine the fault.
///
/// Written as `429=0.1,500=0.05,reset=0.02`; the empty text and `none` mean no faults.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Status 429, sometimes without a usable `Retry-After`.
    pub too_many_requests: f64,
    /// Status 500 with a plain-text body.
    pub internal_error: f64,
    /// Status 503 with a plain-text body.
    pub unavailable: f64,
    /// Status 504 with a plain-text body.
    pub gateway_timeout: f64,
    /// The connection breaks in the middle of a chunked body.
    pub reset: f64,
    /// `Content-Length` promises more than is sent before the connection closes.
    pub truncate: f64,
    /// The body trickles in.
    pub slow: f64,
    /// A page leads to itself once more, under a new cursor. Recorded pages are not affected.
    pub duplicate_page: f64,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    Reset,
    Truncate,
    Slow,
    DuplicatePage,
}

impl Faults {
    fn shares(&self) -> [(&'static str, Fault, f64); 8] {
        [
            ("429", Fault::Status(429), self.too_many_requests),
            ("500", Fault::Status(500), self.internal_error),
            ("503", Fault::Status(503), self.unavailable),
            ("504", Fault::Status(504), self.gateway_timeout),
            ("reset", Fault::Reset, self.reset),
            ("truncate", Fault::Truncate, self.truncate),
            ("slow", Fault::Slow, self.slow),
            ("duplicate", Fault::DuplicatePage, self.duplicate_page),
        ]
    }

    fn share_mut(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "429" => &mut self.too_many_requests,
            "500" => &mut self.internal_error,
            "503" => &mut self.unavailable,
            "504" => &mut self.gateway_timeout,
            "reset" => &mut self.reset,
            "truncate" => &mut self.truncate,
            "slow" => &mut self.slow,
            "duplicate" => &mut self.duplicate_page,
            _ => return None,
        })
    }

    pub(crate) fn check(&self) -> Result<(), SimulatorError> {
        let mut sum = 0.0;
        for (name, _, share) in self.shares() {
            if !(0.0..=1.0).contains(&share) {
                return Err(SimulatorError::Faults(format!(
                    "{name}={share} is not a share between 0 and 1"
                )));
            }
            sum += share;
        }
        // Tolerance, since shares such as 0.1 have no exact binary form.
        if sum > 1.0 + 1e-9 {
            return Err(SimulatorError::Faults(format!(
                "the shares add up to {sum}, which is more than 1"
            )));
        }
        Ok(())
    }

    /// The fault that hits the request with this number, if any.
    pub(crate) fn draw(&self, seed: u64, request: u64) -> Option<Fault> {
        let mut at = Draw::new(seed, "fault", &[request]).unit();
        for (_, fault, share) in self.shares() {
            if at < share {
                return Some(fault);
            }
            at -= share;
        }
        None
    }
}

impl FromStr for Faults {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::default();
        if text.trim() == "none" {
            return Ok(faults);
        }
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let refuse = |why: &str| SimulatorError::Faults(format!("{part:?}: {why}"));
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| refuse("expected name=share"))?;
            let known = faults.shares().map(|(name, ..)| name).join(", ");
            let place = faults
                .share_mut(name.trim())
                .ok_or_else(|| refuse(&format!("no such fault; there are {known}")))?;
            *place = share
                .trim()
                .parse()
                .map_err(|_| refuse("the share is not a number"))?;
        }
        faults.check()?;
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text() {
        let faults: Faults = "429=0.1, 500=0.05,reset=0.02"
            .parse()
            .expect("valid faults");
        assert_eq!(
            faults,
            Faults {
                too_many_requests: 0.1,
                internal_error: 0.05,
                reset: 0.02,
                ..Default::default()
            }
        );
        assert_eq!(
            "none".parse::<Faults>().expect("no faults"),
            Faults::default()
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        for (text, part) in [
            ("418=0.1", "no such fault"),
            ("429", "name=share"),
            ("429=x", "not a number"),
        ] {
            let error = text
                .parse::<Faults>()
                .expect_err("must be refused")
                .to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!("429=1.5".parse::<Faults>().is_err());
        assert!("429=0.6,500=0.6".parse::<Faults>().is_err());
    }

    #[test]
    fn the_same_request_meets_the_same_fault() {
        let faults: Faults = "429=0.2,reset=0.1,duplicate=0.1"
            .parse()
            .expect("valid faults");
        let draws = |seed| {
            (0..2_000)
                .map(|number| faults.draw(seed, number))
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let limited = draws(7)
            .iter()
            .filter(|fault| **fault == Some(Fault::Status(429)))
            .count();
        assert!(
            (300..500).contains(&limited),
            "about a fifth of 2000, but {limited}"
        );
    }
}
