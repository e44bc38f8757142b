//! Laboratory: a web site that tries to be signed in to another one, and to reach what is not for web sites.
//!
//! Its page has a button for each thing to try, and lists what comes of it: every message that it hears, every fragment that
//! it is sent, every answer that it can read. Whatever is listed as *got* is a hole.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::get};
use minijinja::Value;

use super::{
    DemoError,
    page::{self, Templates},
};
use crate::public_url::PublicUrl;

/// The web site.
pub struct Evil {
    /// The service that it would fool.
    pub persona: PublicUrl,
    /// The web site whose assertions it wants.
    pub victim: PublicUrl,
    /// The laboratory's own page, which could kill sites.
    pub world: Option<PublicUrl>,
}

struct Site {
    evil: Evil,
    templates: Templates,
}

impl Evil {
    /// Its pages.
    pub fn router(self) -> Result<Router, DemoError> {
        let templates = Templates::new(&[(TEMPLATE, include_str!("static/evil.html"))])?;
        Ok(Router::new()
            .route("/", get(evil))
            // Where it has others sent to, and what it frames within itself.
            .route("/collect", get(evil))
            .route("/accomplice", get(evil))
            .route(
                "/evil.js",
                get(async || page::script(include_str!("static/evil.js"))),
            )
            .route("/demo.css", get(page::style))
            .route("/favicon.ico", get(page::favicon))
            .with_state(Arc::new(Site {
                evil: self,
                templates,
            })))
    }
}

async fn evil(State(site): State<Arc<Site>>) -> Response {
    let Evil {
        persona,
        victim,
        world,
    } = &site.evil;
    let facts = [
        ("persona", Value::from(persona.origin())),
        ("victim", Value::from(victim.origin())),
        (
            "world",
            Value::from(world.as_ref().map(|world| world.origin().to_owned())),
        ),
    ];
    site.templates.page(TEMPLATE, POLICY, &facts)
}

const TEMPLATE: &str = "evil.html";
/// It forbids itself nothing: what stops it has to be the others' doing.
const POLICY: &str = "default-src * data: blob: 'unsafe-inline' 'unsafe-eval'";
