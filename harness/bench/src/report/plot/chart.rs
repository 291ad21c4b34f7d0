//! A chart of lines, bands and dots over two axes, with its legend below: the form of most drawings.

use super::axis::{Axis, short};
use super::{Fault, Size};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Pixels of one row of the legend.
const LEGEND_ROW: u32 = 18;
/// Pixels of one entry of the legend, the longest arm name included.
const LEGEND_ENTRY: u32 = 150;

/// One line with its band.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    /// Points in the order they are joined.
    pub(super) points: Vec<(f64, f64)>,
    /// `(x, lo, hi)`: an interval around the line; empty for none.
    pub(super) band: Vec<(f64, f64, f64)>,
    /// Whether the points are marked.
    pub(super) dots: bool,
}

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) x: (Axis, &'a str),
    pub(super) y: (Axis, &'a str),
    pub(super) x_label: &'a dyn Fn(&f64) -> String,
    pub(super) series: Vec<Series>,
    /// Horizontal line that marks a value, such as ratio 1.
    pub(super) mark: Option<f64>,
}

impl Chart<'_> {
    /// The chart as SVG.
    pub(super) fn svg(&self, size: Size) -> Option<String> {
        let mut text = String::new();
        self.draw(&mut text, size).ok()?;
        Some(text)
    }

    fn draw<'t>(&self, text: &'t mut String, size: Size) -> Result<(), Fault<'t>> {
        let columns = (size.width / LEGEND_ENTRY).max(1);
        let rows = (self.series.len() as u32).div_ceil(columns);
        let legend_height = LEGEND_ROW * rows + 8;
        let height = size.height + legend_height;
        let root = SVGBackend::with_string(text, (size.width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (plot, legend) = root.split_vertically(height - legend_height);
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, ("sans-serif", size.caption()))
            .margin(8)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(self.x.0.clone(), self.y.0.clone())?;
        chart
            .configure_mesh()
            .x_labels(self.x.0.tick_count().max(1))
            .y_labels(self.y.0.tick_count().max(1))
            .bold_line_style(GRID)
            .x_desc(self.x.1)
            .y_desc(self.y.1)
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 13))
            .x_label_formatter(&self.x_label)
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        if let Some(mark) = self.mark {
            let (lo, hi) = self.x.0.ends();
            chart.draw_series(LineSeries::new([(lo, mark), (hi, mark)], &BLACK))?;
        }
        for series in &self.series {
            if !series.band.is_empty() {
                let above = series.band.iter().map(|(x, _, hi)| (*x, *hi));
                let below = series.band.iter().rev().map(|(x, lo, _)| (*x, *lo));
                let outline: Vec<(f64, f64)> = above.chain(below).collect();
                chart.draw_series([Polygon::new(outline, series.colour.mix(0.18))])?;
            }
            chart.draw_series(LineSeries::new(
                series.points.iter().copied(),
                series.colour.stroke_width(2),
            ))?;
            if series.dots {
                chart.draw_series(
                    series
                        .points
                        .iter()
                        .map(|point| Circle::new(*point, 3, series.colour.filled())),
                )?;
            }
        }
        self.draw_legend(&legend, columns)?;
        root.present()
    }

    fn draw_legend<'t>(
        &self,
        area: &DrawingArea<SVGBackend<'t>, Shift>,
        columns: u32,
    ) -> Result<(), Fault<'t>> {
        for (i, series) in self.series.iter().enumerate() {
            let i = i as u32;
            let x = (12 + LEGEND_ENTRY * (i % columns)) as i32;
            let y = (6 + LEGEND_ROW * (i / columns)) as i32;
            area.draw(&PathElement::new(
                [(x, y + 6), (x + 18, y + 6)],
                series.colour.stroke_width(3),
            ))?;
            area.draw(&Text::new(
                series.name.clone(),
                (x + 24, y),
                ("sans-serif", 13),
            ))?;
        }
        Ok(())
    }
}

/// Colour of grid lines: faint on white, and replaced by the page's own in dark mode.
pub(super) const GRID: RGBColor = RGBColor(221, 221, 221);
