//! Colours, which only a terminal shows.

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::{ColorChoice, Command, ValueEnum};

/// When to write in colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set (<https://no-color.org>) or TERM is `dumb`
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// The option in the arguments. It is needed before they are parsed, for the parser's messages.
    pub(super) fn of_arguments(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut arguments = arguments
            .into_iter()
            .take_while(|argument| argument != "--");
        let mut color = Self::Auto;
        while let Some(argument) = arguments.next() {
            let value = match argument.to_str() {
                Some("--color") => arguments.next().and_then(|value| value.into_string().ok()),
                Some(text) => text.strip_prefix("--color=").map(str::to_string),
                None => None,
            };
            color = value
                .and_then(|value| Self::from_str(&value, false).ok())
                .unwrap_or(color);
        }
        color
    }

    /// Sets the colours of the parser's messages.
    pub(super) fn command(self, command: Command) -> Command {
        command.color(match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        })
    }

    /// Whether stderr gets colours.
    pub(super) fn is_wanted(self) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "colours are decided before the configuration is read"
        )]
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_dumb = variable("TERM").is_some_and(|terminal| terminal == "dumb");
                std::io::stderr().is_terminal() && variable("NO_COLOR").is_none() && !is_dumb
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_color_option_counts() {
        for (arguments, expected) in [
            (&["samsara-etl", "run"][..], Color::Auto),
            (&["samsara-etl", "--color", "never", "run"], Color::Never),
            (&["samsara-etl", "run", "--color=always"], Color::Always),
            (
                &["samsara-etl", "--color=always", "run", "--color", "never"],
                Color::Never,
            ),
            (&["samsara-etl", "--color=pink"], Color::Auto),
            (
                &["samsara-etl", "query", "--", "--color=always"],
                Color::Auto,
            ),
            (&["samsara-etl", "--color"], Color::Auto),
        ] {
            assert_eq!(
                Color::of_arguments(arguments.iter().map(OsString::from)),
                expected,
                "{arguments:?}"
            );
        }
    }
}
