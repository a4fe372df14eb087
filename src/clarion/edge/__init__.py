"""The only code of the product that touches the world: sockets, netlink, HTTP, files, clocks, processes..


"""
