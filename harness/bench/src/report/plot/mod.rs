//! Drawings, all as SVG text: no fonts are needed on this machine, and they stay sharp in a browser.
//!
//! Every drawing is a function of data and [`Size`], so that a page can carry one for a desk and one for
//! a phone instead of shrinking letters beyond reading.

mod aa;
mod axis;
mod bars;
mod blocks;
mod chart;
mod forest;
mod parts;
mod spectrum;
mod sweep;

pub use aa::aa;
pub use bars::{Bar, cpu, stacked};
pub use blocks::blocks;
pub use forest::forest;
pub use parts::{parts, waterfall};
pub use spectrum::spectrum;
pub use sweep::{Quantity, sweep};

use crate::record::Record;
use crate::summary::Summary;
use plotters::prelude::*;

type Fault<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// Pixels of a drawing, without what its legend adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Size {
    /// For a window of ordinary width, and for files of their own.
    pub const DESK: Self = Self {
        width: 860,
        height: 440,
    };
    /// For a phone held upright.
    pub const PHONE: Self = Self {
        width: 350,
        height: 320,
    };

    /// Size of the caption's letters.
    fn caption(self) -> u32 {
        if self.width < 500 { 13 } else { 18 }
    }
}

/// Colour of an arm: the same in every drawing. Okabe and Ito's palette, told apart by colour-blind
/// readers on white and on black; pure black and pure greys are replaced by the page in dark mode.
pub fn colour(arm: &str) -> RGBColor {
    match arm {
        "direct" => RGBColor(0, 0, 0),
        "direct-aa" => RGBColor(140, 140, 140),
        "dnat" => RGBColor(86, 180, 233),
        "envoy-client" => RGBColor(230, 159, 0),
        "envoy-both" => RGBColor(213, 94, 0),
        "envoy-both-sockmap" => RGBColor(170, 120, 60),
        "kmesh" => RGBColor(0, 114, 178),
        "kmesh-remote" => RGBColor(0, 158, 115),
        "kmesh-l4" => RGBColor(204, 121, 167),
        // Arms that a user described: a stable pick by name.
        other => {
            const REST: [RGBColor; 4] = [
                RGBColor(120, 94, 240),
                RGBColor(190, 170, 0),
                RGBColor(160, 32, 90),
                RGBColor(70, 130, 130),
            ];
            let sum: usize = other.bytes().map(usize::from).sum();
            REST[sum % REST.len()]
        }
    }
}

/// All drawings of one scenario as (file name, SVG). A drawing without data is left out.
pub fn svg(summary: &Summary, record: &Record) -> Vec<(String, String)> {
    drawings(summary, record, Size::DESK)
        .into_iter()
        .map(|(name, text)| (format!("{name}.svg"), text))
        .collect()
}

/// The same for a page, by name and in the order of reading.
pub fn drawings(summary: &Summary, record: &Record, size: Size) -> Vec<(&'static str, String)> {
    [
        ("latency", spectrum(summary, record, size)),
        ("ratios", forest(summary, size)),
        ("cpu", cpu(summary, size)),
        ("blocks", blocks(summary, record, size)),
        ("aa", aa(summary, record, size)),
    ]
    .into_iter()
    .filter_map(|(name, drawn)| Some((name, drawn?)))
    .collect()
}
