//! `persona demo-rp` and `persona demo-idp`.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use persona::{
    browserid::Domain,
    demo::{DemoError, IdentityProvider, RelyingParty, identity_provider::PASSWORD},
    listener::Listener,
    public_url::PublicUrl,
};

#[derive(clap::Args)]
pub(super) struct DemoRpArgs {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The Persona that it trusts: `https://persona.example`.
    #[arg(long, value_name = "URL")]
    persona: PublicUrl,
    /// Under which browsers reach it [default: http://rp.localhost:PORT].
    #[arg(long, value_name = "URL")]
    origin: Option<PublicUrl>,
    /// Be a site that tries to get the assertions of this one instead (laboratory).
    #[cfg(feature = "lab")]
    #[arg(long, value_name = "URL")]
    evil: Option<PublicUrl>,
}

/// Persona asks it over HTTPS on port 443 of its name, so put a proxy there, or, in a laboratory, name it in `[lab]` `idps`.
#[derive(clap::Args)]
pub(super) struct DemoIdpArgs {
    /// Where it listens, with TLS.
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// The domain of its users' addresses.
    #[arg(long, default_value = "idp.localhost")]
    domain: String,
    /// The Persona that it certifies for: `https://persona.example`.
    #[arg(long, value_name = "URL")]
    persona: PublicUrl,
    /// Where to write the certificate of the authority behind its TLS, for Persona's `[outbound]` `ca_file`.
    #[arg(long, value_name = "FILE", default_value = "demo-idp-authority.pem")]
    authority: PathBuf,
    /// Where its pages are as well, without TLS, for browsers that trust no such authority.
    #[arg(long, value_name = "ADDRESS")]
    pages: Option<SocketAddr>,
}

pub(super) async fn relying_party(args: DemoRpArgs) -> Result<ExitCode, String> {
    let listener = listen(args.listen, None).await?;
    let at = listener.address().map_err(|error| error.to_string())?;
    let origin = match args.origin {
        Some(origin) => origin,
        None => here("rp.localhost", at)?,
    };
    #[cfg(feature = "lab")]
    if let Some(victim) = args.evil {
        let evil = persona::demo::evil::Evil {
            persona: args.persona,
            victim,
            world: None,
        };
        println!("Somebody evil is at {}/.", here("evil.localhost", at)?);
        let router = evil.router().map_err(|error| words(&error))?;
        listener.serve(router, interrupted()).await;
        return Ok(ExitCode::SUCCESS);
    }
    let site = RelyingParty::new(origin.clone(), args.persona).map_err(|error| words(&error))?;
    println!("A web site to sign in to is at {origin}/. Ctrl-C stops it.");
    listener.serve(site.router(), interrupted()).await;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn identity_provider(args: DemoIdpArgs) -> Result<ExitCode, String> {
    let domain = Domain::parse(&args.domain).ok_or("--domain: expected a domain like `idp.example`")?;
    let plain = match args.pages {
        Some(address) => Some(listen(address, None).await?),
        None => None,
    };
    let pages = match &plain {
        Some(listener) => {
            let at = listener.address().map_err(|error| error.to_string())?;
            Some(here(domain.as_str(), at)?)
        }
        None => None,
    };
    let provider =
        IdentityProvider::new(domain.clone(), args.persona, pages.as_ref()).map_err(|error| words(&error))?;
    fs::write(&args.authority, provider.authority_pem()).map_err(|source| {
        words(&DemoError::File {
            path: args.authority.clone(),
            source,
        })
    })?;
    let secured = listen(args.listen, Some(provider.tls())).await?;
    println!("{domain} certifies its own users. Any name is one; everybody's password is \"{PASSWORD}\".");
    println!("It answers with TLS at {}.", args.listen);
    println!(
        "Persona trusts that if {} is its [outbound] ca_file.",
        args.authority.display()
    );
    if let Some(pages) = pages {
        println!("Its pages are at {pages}/ as well.");
    }
    let without_tls = async {
        if let Some(listener) = plain {
            listener.serve(provider.router(), interrupted()).await;
        }
    };
    tokio::join!(secured.serve(provider.router(), interrupted()), without_tls);
    Ok(ExitCode::SUCCESS)
}

async fn listen(
    address: SocketAddr,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
) -> Result<Listener, String> {
    if cfg!(feature = "lab") && !address.ip().is_loopback() {
        return Err(format!("{address}: a laboratory listens on this machine alone"));
    }
    let bound = Listener::bind(address, tls).await;
    bound.map_err(|source| words(&DemoError::Listen { address, source }))
}

/// A name of this machine, which browsers need no name server for.
fn here(host: &str, at: SocketAddr) -> Result<PublicUrl, String> {
    let url = format!("http://{host}:{}", at.port());
    url.parse().map_err(|error| format!("{url}: {error}"))
}

fn words(error: &DemoError) -> String {
    error.to_string()
}

async fn interrupted() {
    // Without the signal there is nothing to wait for but the process's end.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
