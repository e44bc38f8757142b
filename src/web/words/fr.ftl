# Ce que disent les pages et le dialogue, en français. Les mêmes messages que dans en.ftl, où sont décrits les arguments.

site-description = Connectez-vous au web avec votre adresse e-mail. Une seule connexion, pas de mot de passe par site.
skip = Aller au contenu
nav-label = Menu principal
nav-about = À propos
nav-developers = Développeurs
nav-account = Votre compte
nav-terms = Conditions
nav-privacy = Vie privée
footer = Pas de mot de passe par site. Pas de pistage.
slow = C’est plus long que prévu. Nous continuons d’essayer ; vous n’avez rien à faire.
noscript = Cette page a besoin de JavaScript : c’est votre navigateur qui crée et garde les clés avec lesquelles vous vous connectez.
cancel = Annuler
continue = Continuer
back = Retour
change = Changer
other-address = Utiliser une autre adresse

## Le dialogue

dialog-title = Se connecter
dialog-for = Vous vous connectez à
dialog-loading = Un instant
dialog-site-links = Les règles propres à ce site :
dialog-site-terms = Conditions
dialog-site-privacy = Vie privée

choose-title = Avec quelle adresse ?
choose-title-account = Vous êtes connecté
choose-legend = Vos adresses
choose-submit = Se connecter
choose-add = Utiliser une autre de mes adresses
choose-leave = Je suis quelqu’un d’autre

email-title = Connectez-vous avec votre adresse e-mail
email-title-account = Se connecter à Persona
email-text = Pas de nouveau mot de passe : il suffit que l’adresse soit à vous.
email-label = Adresse e-mail
more-title = Une adresse de plus
more-text = Vous montrez une fois qu’elle est à vous. Ensuite, vous pouvez aussi vous connecter avec elle.

password-title = Heureux de vous revoir
password-label = Mot de passe Persona
password-show = Voir
password-submit = Se connecter
password-forgot = Mot de passe oublié
password-rules = De 8 à 80 caractères. Quelques mots valent mieux que quelques signes.
mine-label = C’est mon ordinateur
mine-text = Rester connecté ici pendant quatre semaines. Sur un ordinateur partagé, décochez : rien n’y est gardé.

create-title = Nouveau ? Choisissez un mot de passe
create-text = Un seul mot de passe, pour Persona seulement. Aucun site ne le voit. Ensuite, nous vous envoyons un message pour voir que l’adresse est à vous.
create-label = Nouveau mot de passe Persona
create-submit = Envoyez-moi le message
transition-title = Choisissez un mot de passe
transition-text = Jusqu’ici, votre fournisseur d’e-mail se portait garant de vous. Il ne le fait plus ; il vous faut donc un mot de passe pour Persona même. Ensuite, nous vous envoyons un message pour voir que l’adresse est à vous.

add-title = Cette adresse est-elle aussi à vous ?
add-text = Nous envoyons un message à { $email }. Avec la réponse, l’adresse devient ici l’une des vôtres, même si elle appartenait jusqu’à présent à un autre compte.
add-password = Votre compte n’a pas encore de mot de passe. Choisissez-en un : il ne sert que pour Persona.
add-submit = Envoyez-moi le message
again-title = Confirmez cette adresse encore une fois
again-text = Votre mot de passe a été réinitialisé depuis la dernière confirmation de { $email } ; nous demandons donc si elle est toujours à vous. Nous vous envoyons un message.
again-submit = Envoyez-moi le message

mail-title = Regardez vos messages
mail-text = Nous avons écrit à { $email }.
mail-open = Ouvrez le lien du message, sur n’importe quel appareil. Cette fenêtre continue d’elle-même.
mail-open-reset = Ouvrez le lien du message et choisissez-y un nouveau mot de passe. Ou faites-le ici, avec le code.
mail-code-label = Ou tapez le code du message
mail-submit = Confirmer
mail-again = Envoyer un autre message
mail-sent-again = Envoyé. Les messages précédents restent valables.
mail-back = Utiliser une autre adresse
mail-hint = Rien ? Regardez dans les indésirables. Un message peut mettre une minute ou deux.
reset-label = Nouveau mot de passe Persona

forgot-title = Un nouveau mot de passe
forgot-text = Nous envoyons un message à { $email }. Avec lui, vous choisissez un nouveau mot de passe ; tous les appareils sont déconnectés, et vos autres adresses doivent être confirmées à nouveau.
forgot-submit = Envoyez-moi le message
locked-title = Trop de mots de passe erronés
locked-text = Pour protéger { $email }, aucun mot de passe n’est plus essayé ici. Laissez-nous vous envoyer un message : avec lui, vous en choisissez un nouveau.

primary-title = Votre fournisseur d’e-mail se porte garant de vous
primary-text = Connectez-vous chez { $domain }. Vous revenez ensuite ici automatiquement. Persona ne voit jamais ce mot de passe-là.
primary-changed = { $domain } se porte maintenant lui-même garant de ses utilisateurs : pour cette adresse, votre mot de passe Persona ne sert plus. Connectez-vous là-bas, et vous revenez ici automatiquement.
primary-submit = Continuer
refused-title = Votre fournisseur d’e-mail ne s’est pas porté garant de vous
refused-text = Vous étiez chez { $domain }, qui n’a pas confirmé { $email }. Peut-être y êtes-vous connecté sous un autre nom, ou quelque chose y est en panne. Cela ne peut se régler que là-bas.
offline-title = Votre fournisseur d’e-mail ne répond pas
offline-text = { $domain } se porte lui-même garant de ses utilisateurs et reste injoignable pour le moment. Nous ne pouvons pas le faire à sa place. Réessayez plus tard, ou utilisez une autre adresse.

leaving-title = Connecté
leaving-text = Retour à { $site } …
notice-title = Impossible de continuer ici
notice-account = Vers votre compte
trouble-title = Cela n’a pas marché
trouble-again = Réessayer

note-password-needed = Votre mot de passe, s’il vous plaît : cela fait un moment.
note-transition-to-secondary = Votre fournisseur d’e-mail ne se porte plus garant de vous. Votre mot de passe Persona compte de nouveau.
note-mail-ended = Ce message-là ne peut plus recevoir de réponse : il est trop ancien, a déjà servi, ou il y a eu trop de codes erronés. Recommencez.
note-confirmed-elsewhere = Votre adresse est confirmée. Comme cela s’est fait dans un autre navigateur, il nous faut ici votre mot de passe.
note-primary-cancelled = Vous ne vous êtes pas connecté chez votre fournisseur d’e-mail.
note-signed-out = Vous avez été déconnecté, peut-être depuis un autre appareil. Connectez-vous de nouveau.

flow-no-opener = Le site continue dans sa propre fenêtre. Vous pouvez fermer celle-ci.
flow-no-answer = La page qui a ouvert cette fenêtre ne répond pas. Retournez-y, rechargez-la et appuyez encore sur son bouton.
flow-http-site = Ce site est venu par HTTP sans chiffrement, où n’importe qui en chemin pourrait prendre sa place. Il doit utiliser HTTPS.
flow-flow-ended = Cette connexion est restée ouverte trop longtemps. Retournez sur le site et appuyez encore sur son bouton.
flow-flow-over = Cette connexion est terminée. Retournez sur le site.
flow-opener-gone = La page qui a demandé n’est plus là ; elle n’a donc rien reçu. Retournez sur le site et appuyez encore sur son bouton.
flow-signed-in-go-back = Vous êtes connecté à Persona. La page de votre fournisseur d’e-mail a coupé cette fenêtre du site : retournez-y et appuyez encore sur son bouton.

error-other = Quelque chose s’est mal passé qui n’aurait pas dû. Réessayez.
error-unreachable = Persona est injoignable. Cet appareil est-il connecté à internet ?
error-unavailable = Persona n’est pas disponible pour le moment. Réessayez dans une minute.
error-email = Ce n’est pas une adresse e-mail.
error-password-empty = Tapez votre mot de passe.
error-password-rules = Un mot de passe a de 8 à 80 caractères.
error-wrong-password = Ce mot de passe est faux. Si vous vous êtes inscrit ou en avez choisi un autre récemment, c’est le dernier qui compte.
error-locked = Trop de mots de passe erronés. Laissez-nous vous envoyer un message.
error-wrong-code = Ce code est faux. Essais restants : { $tries }.
error-code-form = Le code a huit lettres et chiffres.
error-code-ended = Trop de codes erronés. Recommencez.
error-mail-throttled = Nous venons d’écrire à cette adresse. Regardez vos messages, ou réessayez dans { $minutes } min.
error-rate-limited = Trop d’essais depuis ici. Réessayez dans { $minutes } min.
error-bad-certificate = Ce qui garantit cette adresse n’avait pas de sens. Réessayez plus tard.

## Votre compte

home-title = Persona
home-loading = Un instant
welcome-title = Connectez-vous au web avec votre adresse e-mail.
welcome-text = Une seule connexion pour tous les sites qui participent. Pas de mot de passe par site, personne qui vous suit de l’un à l’autre.
welcome-submit = Se connecter
welcome-about = Comment ça marche
welcome-one-title = À vous
welcome-one-text = Une adresse e-mail, vous en avez déjà une. Un site n’a besoin de rien d’autre pour vous reconnaître.
welcome-two-title = Discret
welcome-two-text = C’est votre navigateur qui répond au site. On ne nous demande rien ; nous ne savons donc pas où vous vous connectez jour après jour.
welcome-three-title = Présent
welcome-three-text = Dix centres de données, chacun capable de continuer seul. Si la moitié tombe, vous ne remarquez rien.

account-title = Votre compte
addresses-title = Adresses e-mail
addresses-text = Vous pouvez vous connecter avec chacune d’elles.
addresses-add = Ajouter une adresse
address-primary = Son domaine se porte garant de vous
address-unverified = À confirmer : le mot de passe a été réinitialisé depuis
address-again = Confirmer
address-remove = Retirer
address-not-mine = Pas à moi
remove-text = Retirer { $email } de votre compte ? Les sites qui vous connaissent par elle ne vous connaîtront plus.
remove-submit = La retirer
lost-title = Plus à vous ici
lost-text = Quelqu’un avec une preuve plus récente a maintenant ces adresses. Si ce n’était pas vous, quelqu’un d’autre lit ces messages.
account-password-title = Mot de passe
account-password-text = Un seul mot de passe, pour Persona seulement.
account-password-none = Votre compte n’a pas de mot de passe : votre fournisseur d’e-mail se porte garant de vous. Vous en choisissez un quand vous ajoutez une adresse dont le fournisseur ne le fait pas.
account-password-change = Changer le mot de passe
account-password-old = Mot de passe actuel
account-password-new = Nouveau mot de passe
account-password-submit = Le changer
sessions-title = Où vous êtes connecté
sessions-text = Les navigateurs qui peuvent se connecter avec vos adresses.
session-current = Ce navigateur
session-when = Vu la dernière fois : { $when }
session-end = Terminer
sign-out = Se déconnecter ici
sign-out-everywhere = Se déconnecter partout
cancel-title = Supprimer le compte
cancel-text = Tout ce que nous savons de vous est effacé.
cancel-begin = Supprimer le compte …
cancel-erased = Sont effacés, partout et pour de bon :
cancel-erased-one = vos adresses et votre mot de passe, dans tous les centres de données, journaux compris ; des sauvegardes, quand celles-ci prennent fin,
cancel-erased-two = toutes les sessions : chaque navigateur est déconnecté,
cancel-erased-three = mais pas ce qu’un site a gardé de vous : pour cela, adressez-vous au site.
cancel-sure = J’ai compris, et cela ne peut être annulé
cancel-submit = Supprimer le compte
cancel-keep = Le garder
cancelled-title = Votre compte n’existe plus
cancelled-text = Vos données sont en train d’être effacées dans tous les centres de données. Vous pouvez vous réinscrire à tout moment.
ask-title = Votre mot de passe, s’il vous plaît
ask-text = Cela fait un moment, et il s’agit de votre compte même.
elsewhere = Fait ici. D’autres centres de données ne le savent pas encore, car ils sont injoignables pour le moment ; ils le sauront dès que possible.

said-added = { $email } est maintenant à vous.
said-removed = { $email } a été retirée.
said-password = Votre mot de passe a été changé. Les autres appareils ont été déconnectés.
said-ended = Ce navigateur a été déconnecté. Ce qu’il avait reçu peut encore servir auprès des sites pendant un jour au plus.
said-everywhere = Vous êtes déconnecté partout.
said-mail-ended = Ce message-là ne peut plus recevoir de réponse. Recommencez.
said-elsewhere = Un autre navigateur l’a confirmé. Cela se voit ici dans un instant.
error-sure = Cochez d’abord la case.

## Liens des messages

landing-title = Confirmer
landing-loading = Un instant
prove-title-new = Est-ce votre adresse ?
prove-title-add = Ajouter cette adresse ?
prove-title-again = Est-ce toujours votre adresse ?
prove-title-reset = Choisissez un nouveau mot de passe
prove-title-transition = Confirmer l’adresse et le mot de passe
prove-text-new = Confirmez-le, et votre compte Persona est prêt.
prove-text-add = Confirmez-le, et vous pourrez aussi vous connecter avec elle.
prove-text-again = Confirmez-le, et vous pourrez de nouveau vous connecter avec elle.
prove-text-reset = Il ne sert que pour Persona. Tous les appareils sont déconnectés, et vos autres adresses doivent être confirmées à nouveau.
prove-text-transition = Confirmez-le, et votre nouveau mot de passe Persona compte.
prove-elsewhere = Ce n’est pas le navigateur dans lequel vous avez commencé. Pour que personne d’autre ne puisse se servir de votre clic, tapez le mot de passe Persona que vous y avez choisi.
prove-submit = Oui, confirmer
prove-submit-reset = Enregistrer le mot de passe
prove-not-you = Si vous n’avez rien demandé, fermez cette page. Il ne se passe alors rien.
proven-title = Confirmé
proven-title-reset = Votre nouveau mot de passe compte
proven-text = Vous pouvez fermer cette page. Là où vous avez commencé, tout continue automatiquement.
proven-account = Vers votre compte
useless-title = Ce lien ne sert plus à rien
useless-text = Un lien sert une fois, dans les 24 heures. Recommencez sur le site, et nous vous en envoyons un nouveau.
useless-form = Le lien n’est pas entier. Ouvrez-le encore une fois depuis le message, ou copiez-le en entier.

## Erreurs

home-link = Vers l’accueil
not-found-title = Cette page n’existe pas
not-found-text = Peut-être une faute de frappe dans l’adresse, ou la page a été déplacée.
unavailable-title = De retour dans un instant
unavailable-text = Ce centre de données est occupé ou en maintenance. Rechargez la page dans une minute : un autre répondra peut-être.
refused-flow-title = Ce site ne peut pas vous connecter
refused-flow-text = Il manque à sa demande ce dont Persona a besoin. Vous n’avez rien fait de mal ; c’est à ses auteurs d’y remédier :
cure-origin = Le navigateur n’a pas dit de quel site il s’agissait : la demande n’avait pas d’en-tête Origin, ou « null ». Envoyez-la depuis une page sans bac à sable, avec une Referrer-Policy autre que « no-referrer », par exemple « strict-origin ».
cure-http = Le site est venu par HTTP sans chiffrement, où n’importe qui en chemin pourrait prendre sa place. Utilisez HTTPS. HTTP sans chiffrement ne vaut que sur cette machine même (localhost).
cure-form = Le formulaire est incomplet ou trop long. Mieux vaut le laisser à include.js : returnTo est un chemin du site même, key la clé publique de cet échange.

## À propos

about-title = À propos de Persona
about-lead = Une adresse e-mail suffit pour se connecter.
about-how-title = Comment ça marche
about-how-1 = Vous appuyez sur le bouton d’un site et donnez à Persona votre adresse e-mail. La première fois, vous répondez à un message, ou votre fournisseur d’e-mail se porte garant de vous.
about-how-2 = Dès lors, votre navigateur a une clé, et un certificat qui dit pendant un jour : cette clé parle pour cette adresse. Quand vous vous connectez à un site, votre navigateur signe une courte déclaration, pour ce site seul.
about-how-3 = Le site vérifie la signature. Il apprend votre adresse, et rien d’autre.
about-privacy-title = Qui apprend quoi
about-privacy-1 = Un site apprend l’adresse que vous choisissez pour lui. Vous pouvez en avoir plusieurs, et en utiliser une autre sur chaque site.
about-privacy-2 = Votre fournisseur d’e-mail n’apprend pas où vous vous connectez. Ce que nous pourrions voir est écrit sur la page « Vie privée ».
about-always-title = Toujours là
about-always-1 = Persona tourne dans dix centres de données à la fois. Chacun a tout, et continue quand les autres s’arrêtent.
about-free-title = Le jardin de personne
about-free-1 = C’est un protocole ouvert, BrowserID. Tout domaine d’e-mail peut se porter garant de ses propres utilisateurs ; on n’a alors plus besoin de nous pour eux.

## Conditions

terms-title = Conditions
terms-lead = Brèves, car il y a peu de choses à convenir.
terms-service-title = Le service
terms-service-1 = Persona prouve aux sites qu’une adresse e-mail est à vous. Il ne coûte rien et se prend tel quel : nous faisons de notre mieux pour qu’il soit toujours là, et ne promettons rien de plus.
terms-you-title = Vous
terms-you-1 = Utilisez des adresses qui sont à vous. Gardez votre mot de passe pour vous. N’essayez pas de vous connecter sous le nom d’un autre, ni de gâcher le service aux autres.
terms-sites-title = Les sites
terms-sites-1 = Ce que vous faites sur un site est entre vous et lui. Il a ses propres conditions et sa propre page sur la vie privée, vers lesquelles renvoie le dialogue.
terms-end-title = La fin
terms-end-1 = Vous pouvez supprimer votre compte à tout moment, sur sa page. Nous pouvons mettre fin aux comptes qui nuisent à autrui.

## Vie privée

privacy-title = Vie privée
privacy-lead = Ce que nous gardons de vous, et ce qui pourrait se voir malgré tout.
privacy-kept-title = Ce que nous gardons
privacy-kept-1 = Vos adresses e-mail ; votre mot de passe, haché de telle sorte qu’on ne peut le relire ; quand une adresse a été prouvée ; quand vous vous êtes connecté pour la dernière fois, où, et avec quel genre de navigateur, pour que vous puissiez terminer une session.
privacy-kept-2 = Tant qu’un message est en route : l’adresse, et le site où vous avez commencé, pendant 24 heures au plus.
privacy-kept-3 = Quand vous retirez une adresse ou supprimez le compte, tout est effacé dans tous les centres de données, des tables et des journaux. Les sauvegardes prennent fin après un délai fixe.
privacy-not-title = Ce que nous n’avons pas
privacy-not-1 = Aucune liste des sites que vous utilisez, aucun profil, aucune publicité, aucune statistique sur des personnes. Les journaux ne contiennent ni adresse ni site. Les pages ne chargent rien de personne d’autre.
privacy-seen-title = Ce qui reste observable
privacy-seen-1 = Quand vous vous connectez, votre navigateur charge notre dialogue. Qui exploite ces machines, ou s’y introduit, pourrait donc voir que ce navigateur se connecte à quelque chose en ce moment, et son adresse réseau.
privacy-seen-2 = De quel site il s’agit, votre navigateur le dit à notre page, pas à nos serveurs. Il y a des exceptions : le message pour une nouvelle adresse nomme le site où vous avez commencé ; un navigateur qui doit passer par une redirection nomme le site à notre serveur, qui ne le garde que dans le cookie de votre navigateur ; et un site qui nous fait vérifier la signature au lieu de le faire lui-même nous montre à cet instant son nom et votre adresse.
privacy-seen-3 = Un site qui inclut notre script le fait chercher de temps en temps par votre navigateur. Cela se passe de nos cookies, et ne nous dit pas la page.
privacy-seen-4 = Des sites qui vous connaissent par la même adresse peuvent constater entre eux que c’est vous. Utilisez des adresses différentes si cela vous importe.
privacy-browser-title = Dans votre navigateur
privacy-browser-1 = Un cookie qui dit que vous êtes connecté, un autre qui dit que vous l’avez déjà été ici, et pour une redirection un troisième, qui vit deux heures. Sur un ordinateur que vous avez dit vôtre, votre navigateur garde aussi des clés, des certificats, vos adresses, et laquelle vous avez utilisée sur quel site. Cette liste ne le quitte jamais.

## Développeurs

developers-title = Pour les développeurs
developers-lead = Un bouton qui connecte les gens avec une adresse prouvée. Trois étapes, pas d’inscription, aucun secret à garder.
developers-one-title = 1. Inclure le script
developers-one-text = Il est petit et ne dépend de rien. La seconde forme ne change jamais, et l’attribut integrity de votre page y veille.
developers-two-title = 2. Observer et demander
developers-two-text = C’est votre propre session qui dit qui est connecté. Persona ne parle qu’après une pression sur votre bouton ; il ne connecte ni ne déconnecte personne de lui-même.
developers-three-title = 3. Vérifier sur votre serveur
developers-three-text = Envoyez l’assertion à votre serveur, et de là au nôtre, avec votre propre origine comme audience. L’audience est une constante à vous : ne la prenez jamais dans la requête.
developers-csrf-text = Ce qui reçoit une assertion est un formulaire de connexion comme un autre. Sans contrôle de sa provenance, un autre site pourrait connecter ses visiteurs au vôtre sous le nom d’un autre. Il n’accepte donc que des requêtes de vos propres pages, et un nonce que votre session connaît.
developers-live-title = Essayez
developers-live-text = Cette page est un site comme le vôtre. Ses en-têtes la coupent des fenêtres qu’elle ouvre ; elle passe donc par une redirection.
developers-live-submit = Se connecter avec Persona
developers-live-none = Personne n’est connecté à cette page.
developers-live-some = Voici ce que cette page a reçu et vérifié :
developers-live-out = Se déconnecter de cette page
developers-way-title = Fenêtre ou redirection
developers-way-1 = Le script ouvre une fenêtre. Là où elle est bloquée, ou là où votre page se coupe de ses fenêtres (Cross-Origin-Opener-Policy: same-origin), il passe par une redirection et revient à returnTo. onlogin est appelé dans tous les cas.
developers-way-2 = La réponse revient dans le fragment de l’adresse, chiffrée pour votre seul onglet, et le script l’enlève. Chargez donc le script avant tout ce qui lit le fragment. Une Content-Security-Policy a besoin de l’origine de Persona dans script-src et form-action.
developers-way-3 = Avec get(), aucune fonction ne survit à la page : après une redirection, l’appel suivant de get() donne la réponse aussitôt. Avec watch(), il n’y a pas à y penser.
developers-api-title = navigator.id
developers-api-watch = Fonctions : onlogin(assertion) est nécessaire ; onlogout, onmatch, onready. loggedInUser est l’adresse que connaît votre session, null s’il n’y en a pas.
developers-api-request = À la pression d’un bouton. email (une suggestion), nonce (revient de la vérification), siteName, siteLogo (une image data:), backgroundColor, privacyPolicy avec termsOfService, returnTo (un chemin), oncancel.
developers-api-logout = Appelle onlogout, où vous terminez votre propre session. Ne termine rien chez Persona.
developers-api-get = La forme courte, sans watch() : la fonction reçoit une assertion, ou null.
developers-changed-title = Ce qui a changé depuis 2016
developers-changed-1 = watch() ne charge rien de Persona : les navigateurs ne laissent plus un cadre savoir qui est connecté ailleurs. Personne n’est donc connecté sans votre bouton, ni déconnecté par une panne chez nous. onlogin ne vient qu’après request(), onlogout qu’après logout().
developers-changed-2 = Clés et signatures sont en ES256, et une assertion est un JWS précédé d’un certificat. Vérifiez avec nous, ou avec les clés publiques de /.well-known/browserid.
developers-changed-3 = Un nonce peut être donné. Les logos doivent être des images data:, car le dialogue ne charge rien des sites. forceIssuer et allowUnverified n’existent plus.
developers-changed-4 = L’audience doit être une origine entière, avec schéma et port.
developers-domains-title = Pour les domaines d’e-mail
developers-domains-1 = Un domaine qui se porte garant de ses propres utilisateurs publie /.well-known/browserid avec public-key (ou keys), authentication et provisioning. Ses utilisateurs se connectent alors chez lui, et Persona n’en certifie aucun.
developers-domains-2 = La page de provisioning signe la clé d’un navigateur dont la personne est connectée. Elle est interrogée une fois dans un cadre et, si les navigateurs y retiennent ses cookies, comme page à part entière.
developers-domains-3 = La page d’authentication connecte la personne, et continue.
