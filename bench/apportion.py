"""Share a whole number out in proportion, by largest remainders."""


def shares_of(total: int, sizes: list[int]) -> list[int]:
    """Share a total out in proportion to sizes, in whole numbers, largest remainders first."""
    whole = max(1, sum(sizes))
    parts = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: -(total * sizes[i] % whole))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts
