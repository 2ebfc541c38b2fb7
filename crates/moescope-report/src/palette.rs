//! Colours that people with any colour vision tell apart, after Okabe and Ito; each pair is for light and dark.
//!
//! Colour never speaks alone: series also differ by marker and dash, confidence by words.

/// Colours of the series, light and dark.
pub(crate) const SERIES: [(&str, &str); 8] = [
    ("#0072b2", "#5ab4f0"),
    ("#d55e00", "#f58b4c"),
    ("#00875f", "#34c9a0"),
    ("#b8558f", "#e59bc8"),
    ("#8a6d00", "#e8bf4a"),
    ("#3d9bd4", "#a3d8f7"),
    ("#5b5b66", "#b9bac4"),
    ("#6b4fa3", "#b8a2e8"),
];

/// Place of the grey in [`SERIES`].
const GREY: usize = 6;

/// The series whose colour stands for the entry at a place of a list without dashes or markers: the grey is left for the
/// entries for which there is no colour.
pub(crate) fn series_of(place: Option<usize>) -> usize {
    match place {
        Some(place) if place < GREY => place,
        Some(place) if place + 1 < SERIES.len() => place + 1,
        _ => GREY,
    }
}

/// Dashes of the lines as lengths of stroke and gap; the first is unbroken.
pub(crate) const DASHES: [&[u32]; 4] = [&[], &[7, 4], &[2, 3], &[9, 3, 2, 3]];

/// Markers by the names that ECharts gives them.
pub(crate) const MARKERS: [&str; 6] = ["circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect"];

/// A sequential scale from little to much.
pub(crate) const SEQUENTIAL: Ramp = Ramp {
    light: &["#f3f6fa", "#c6dcee", "#83b8dd", "#3f8fc5", "#12659f", "#08355c"],
    dark: &["#1d2530", "#1f3f5f", "#24669a", "#3f93cc", "#86c1e8", "#dff0fb"],
};

/// A diverging scale from below to above, neutral in the middle.
pub(crate) const DIVERGING: Ramp = Ramp {
    light: &["#08519c", "#4a90c8", "#a9cfe8", "#f5f4f1", "#f3bf8e", "#db7a2b", "#93410a"],
    dark: &["#9ed2f7", "#4a9bd8", "#225a8a", "#2a2c31", "#85491a", "#d67c34", "#fbc793"],
};

/// The stops of a colour scale for a light and for a dark page.
pub(crate) struct Ramp {
    /// Stops on a light page at equal distances, as `#rrggbb`.
    pub(crate) light: &'static [&'static str],
    /// Stops on a dark page, as many as for a light one.
    pub(crate) dark: &'static [&'static str],
}

/// How the series of one number looks.
///
/// It depends on the number alone, so the second series has one look in every figure of the page.
pub(crate) struct Look {
    /// Place in [`SERIES`].
    pub(crate) color: usize,
    /// Stroke and gap in pixels; empty for an unbroken line.
    pub(crate) dash: &'static [u32],
    /// One of [`MARKERS`].
    pub(crate) marker: &'static str,
}

impl Look {
    /// Colour, dash and marker; the first 24 series differ in at least two of them.
    pub(crate) fn of(series: usize) -> Look {
        Look {
            color: series % SERIES.len(),
            dash: DASHES[(series + series / SERIES.len()) % DASHES.len()],
            marker: MARKERS[(series + series / SERIES.len()) % MARKERS.len()],
        }
    }
}

impl Ramp {
    /// The light colour at `t` in `[0, 1]`, by linear interpolation.
    ///
    /// Still pictures alone use it, since paper is white; the live chart has both scales and follows the theme. The
    /// mix is of sRGB values, so equal steps of `t` are only about equal to the eye.
    pub(crate) fn color(&self, t: f64) -> String {
        let steps = (self.light.len() - 1) as f64;
        let place = t.clamp(0.0, 1.0) * steps;
        let left = (place.floor() as usize).min(self.light.len() - 2);
        let mix = place - left as f64;
        let (from, to) = (channels(self.light[left]), channels(self.light[left + 1]));
        let mixed = |i: usize| (from[i] + (to[i] - from[i]) * mix).round() as u8;
        format!("#{:02x}{:02x}{:02x}", mixed(0), mixed(1), mixed(2))
    }
}

/// The palette as CSS variables `--series-0` … that follow the theme.
pub(crate) fn style() -> String {
    let colors = SERIES.iter().enumerate();
    let lines = colors.map(|(i, (light, dark))| format!("--series-{i}:light-dark({light},{dark});"));
    format!(":root{{{}}}\n", lines.collect::<String>())
}

/// Red, green and blue of `#rrggbb`, each from 0 to 255.
fn channels(hex: &str) -> [f64; 3] {
    let channel = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).map_or(0.0, f64::from);
    [channel(1), channel(3), channel(5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_begins_and_ends_with_its_stops() {
        assert_eq!(SEQUENTIAL.color(0.0), "#f3f6fa");
        assert_eq!(SEQUENTIAL.color(1.0), "#08355c");
        assert_eq!(DIVERGING.color(0.5), "#f5f4f1");
        assert_eq!(DIVERGING.color(f64::NAN).len(), 7);
    }

    #[test]
    fn entries_without_a_colour_are_grey() {
        let series = [Some(0), Some(5), Some(6), Some(7), None].map(series_of);
        assert_eq!(series, [0, 5, 7, GREY, GREY]);
    }

    #[test]
    fn two_dozen_series_look_different() {
        let looks: std::collections::BTreeSet<_> = (0..24)
            .map(|i| {
                let look = Look::of(i);
                (look.color, look.dash, look.marker)
            })
            .collect();
        assert_eq!(looks.len(), 24);
    }
}
