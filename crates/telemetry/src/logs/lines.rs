//! Lines on stdout: one for each event, whatever is in it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use tracing_subscriber::fmt::{
    MakeWriter,
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::{LogFormat, limit::take_note};

/// Makes the writer of each event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    pub(super) format: LogFormat,
    /// Colours are escape sequences. What values have of them, the formatter has escaped.
    pub(super) is_terminal: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Lines {
    /// Takes a whole event, as the formatter hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut text = String::with_capacity(event.len() + 1);
        if let Some(left_out) = take_note() {
            self.note(left_out, &mut text);
        }
        self.line(&String::from_utf8_lossy(event), &mut text);
        io::stdout().write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Lines {
    /// Writes an event as one line: characters that would begin another, or do something to a terminal, are written as numbers.
    fn line(self, event: &str, to: &mut String) {
        let event = event.strip_suffix('\n').unwrap_or(event);
        for character in event.chars() {
            let is_colour = character == '\u{1b}' && self.is_terminal;
            let is_break = character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
            // Writing to a string cannot fail.
            let _ = match self.format {
                _ if !is_break || is_colour => to.write_char(character),
                LogFormat::Json => write!(to, "\\u{:04x}", u32::from(character)),
                LogFormat::Text => write!(to, "{}", character.escape_default()),
            };
        }
        to.push('\n');
    }

    /// A line that says how many were left out before the next one.
    fn note(self, left_out: u64, to: &mut String) {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let message = "lines like the next one were left out";
        let _ = match self.format {
            LogFormat::Text => writeln!(to, "{time}  WARN {message} left_out={left_out}"),
            LogFormat::Json => writeln!(
                to,
                r#"{{"timestamp":"{time}","level":"WARN","fields":{{"message":"{message}","left_out":{left_out}}}}}"#
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, is_terminal: bool, event: &str) -> String {
        let mut text = String::new();
        Lines { format, is_terminal }.line(event, &mut text);
        text
    }

    #[test]
    fn an_event_is_one_line() {
        let event = "a\nb\r\tc\u{7f}\u{85}\u{2028}d\u{1b}[31m é\n";
        let text = r"a\nb\r\tc\u{7f}\u{85}\u{2028}d\u{1b}[31m é";
        assert_eq!(line(LogFormat::Text, false, event), format!("{text}\n"));
        assert_eq!(line(LogFormat::Text, true, "\u{1b}[2mx\n"), "\u{1b}[2mx\n");
        let json = line(LogFormat::Json, false, "{\"a\":\"x\u{85}\"}\n");
        assert_eq!(json, "{\"a\":\"x\\u0085\"}\n");
    }

    #[test]
    fn a_note_is_a_line_of_the_same_format() {
        let note = |format| {
            let mut text = String::new();
            Lines { format, is_terminal: false }.note(7, &mut text);
            text
        };
        assert!(note(LogFormat::Text).ends_with("  WARN lines like the next one were left out left_out=7\n"));
        assert!(note(LogFormat::Json).ends_with("left out\",\"left_out\":7}}\n"));
    }
}
