//! Text and shapes, in the colours of Grafana's dark theme.

use std::fmt::Write as _;

pub(super) const BRIGHT: &str = "#ccccdc";
pub(super) const DIM: &str = "#9a9ba6";
const BACKGROUND: &str = "#111217";
const PANEL: &str = "#181b1f";
const BORDER: &str = "#24262b";
const GRID: &str = "#26292f";

/// Where something is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A picture.
pub(super) struct Svg(String);

/// What would be markup in text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A coordinate, to a tenth of a pixel: nobody sees more, and files stay small.
fn at(number: f64) -> String {
    let rounded = format!("{number:.1}");
    rounded.strip_suffix(".0").map_or(rounded.clone(), str::to_owned)
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let (width, height) = (at(width), at(height));
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"Inter, Roboto, 'Helvetica Neue', Arial, sans-serif\">\n"
        );
        let _ = writeln!(text, "<rect width=\"{width}\" height=\"{height}\" fill=\"{BACKGROUND}\"/>");
        Self(text)
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn text(&mut self, x: f64, y: f64, size: f64, colour: &str, more: &str, text: &str) {
        let (x, y, size, text) = (at(x), at(y), at(size), escaped(text));
        let _ = writeln!(
            self.0,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\"{more}>{text}</text>"
        );
    }

    /// Text that begins here.
    pub(super) fn label(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.text(x, y, size, colour, "", text);
    }

    /// Text that ends here.
    pub(super) fn label_to(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.text(x, y, size, colour, " text-anchor=\"end\"", text);
    }

    /// Text around here.
    pub(super) fn label_around(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.text(x, y, size, colour, " text-anchor=\"middle\"", text);
    }

    /// A large number around here.
    pub(super) fn number(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.text(x, y, size, colour, " text-anchor=\"middle\" font-weight=\"600\"", text);
    }

    /// The card of a panel.
    pub(super) fn card(&mut self, Area { x, y, width, height }: Area) {
        let (x, y, width, height) = (at(x), at(y), at(width), at(height));
        let _ = writeln!(
            self.0,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\" fill=\"{PANEL}\" stroke=\"{BORDER}\"/>"
        );
    }

    /// The mark of a series in a legend.
    pub(super) fn mark(&mut self, x: f64, y: f64, colour: &str) {
        let (x, y) = (at(x), at(y));
        let _ = writeln!(
            self.0,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"3\" rx=\"1.5\" fill=\"{colour}\"/>"
        );
    }

    /// A line of the grid.
    pub(super) fn grid(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line(&[from, to], GRID, 1.0, "");
    }

    /// A threshold.
    pub(super) fn threshold(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        self.line(&[from, to], colour, 1.0, " stroke-dasharray=\"6 4\" stroke-opacity=\"0.8\"");
    }

    /// A line through points.
    pub(super) fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        if let [(x, y)] = points {
            let (x, y) = (at(*x), at(*y));
            let _ = writeln!(self.0, "<circle cx=\"{x}\" cy=\"{y}\" r=\"1.5\" fill=\"{colour}\"/>");
            return;
        }
        self.line(points, colour, 1.4, " stroke-linejoin=\"round\"");
    }

    /// What is between a line and another one.
    pub(super) fn fill(&mut self, above: &[(f64, f64)], below: &[(f64, f64)], colour: &str, opacity: f64) {
        if above.len() < 2 {
            return;
        }
        let points = path(above.iter().chain(below.iter().rev()));
        let _ = writeln!(self.0, "<path d=\"{points}Z\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>");
    }

    fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64, more: &str) {
        let points = path(points.iter());
        let width = at(width);
        let _ = writeln!(
            self.0,
            "<path d=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{more}/>"
        );
    }
}

/// A path from point to point, each relative to the one before it, in tenths that add up exactly.
fn path<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> String {
    let tenths = |number: f64| (number * 10.0).round() as i64;
    let (mut text, mut before) = (String::new(), None);
    for point in points {
        let (x, y) = (tenths(point.0), tenths(point.1));
        let (command, dx, dy) = match before {
            None => ('M', x, y),
            Some((last_x, last_y)) => ('l', x - last_x, y - last_y),
        };
        let dx = at(dx as f64 / 10.0);
        let dy = at(dy as f64 / 10.0);
        let space = if dy.starts_with('-') { "" } else { " " };
        let _ = write!(text, "{command}{dx}{space}{dy}");
        before = Some((x, y));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup_and_coordinates_are_short() {
        let mut svg = Svg::new(10.0, 20.25);
        svg.label(1.04, 2.0, 3.0, BRIGHT, "<script>&");
        let text = svg.finish();
        assert!(text.contains("&lt;script&gt;&amp;</text>") && text.contains("x=\"1\""), "{text}");
        assert!(text.contains("viewBox=\"0 0 10 20.2\"") && text.ends_with("</svg>\n"), "{text}");
    }
}
