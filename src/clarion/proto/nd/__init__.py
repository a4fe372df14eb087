"""Router Advertisements (RFC 4861): how unnumbered BGP peers learn each other's addresses."""
