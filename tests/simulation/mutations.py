def table(*a):
    return 0
