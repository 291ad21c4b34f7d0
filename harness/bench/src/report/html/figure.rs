//! A drawing on the page: one for a desk, one for a phone; the style sheet shows the one that fits.

use crate::report::plot::Size;
use maud::{Markup, PreEscaped, html};

/// `draw` for both sizes with a caption; nothing when there is nothing to draw.
pub(super) fn figure(draw: impl Fn(Size) -> Option<String>, caption: &str) -> Markup {
    let (Some(desk), Some(phone)) = (draw(Size::DESK), draw(Size::PHONE)) else {
        return html! {};
    };
    html! {
        figure {
            div.desk { (PreEscaped(desk)) }
            div.phone { (PreEscaped(phone)) }
            figcaption { (caption) }
        }
    }
}
