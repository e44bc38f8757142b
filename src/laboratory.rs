//! What only a laboratory has, told by itself: for who makes sure that a package has none of it.
//!
//! Nothing is listed here by hand. The modules that are compiled only with the feature `lab` keep their routes in constants that
//! their routers are made of, and their pages in files that have titles; this collects both. So a route that is added
//! there is looked for, too.

use crate::{admin, mail, world};

/// Paths that people's listener has in a laboratory.
pub fn routes() -> Vec<&'static str> {
    mail::inbox::ROUTES.to_vec()
}

/// Paths that the operator's socket has in a laboratory.
pub fn operator_routes() -> Vec<&'static str> {
    admin::LAB_ROUTES.to_vec()
}

/// Words that are in a laboratory's binary and in no other.
pub fn marks() -> Vec<&'static str> {
    let mut marks = routes();
    marks.extend(operator_routes());
    marks.extend(world::ROUTES);
    let pages = [mail::inbox::PAGE, world::PAGE];
    marks.extend(pages.into_iter().filter_map(title));
    marks
}

/// What a page calls itself.
fn title(page: &'static str) -> Option<&'static str> {
    let (_, rest) = page.split_once("<title>")?;
    let (title, _) = rest.split_once("</title>")?;
    Some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_it_is_told_of() {
        let marks = marks();
        for known in [
            "/lab/inbox.json",
            "/lab/links",
            "/api/world",
            "Inbox of the laboratory",
        ] {
            assert!(marks.contains(&known), "{known}: {marks:?}");
        }
        assert!(marks.iter().all(|mark| mark.len() > 4), "{marks:?}");
    }
}
