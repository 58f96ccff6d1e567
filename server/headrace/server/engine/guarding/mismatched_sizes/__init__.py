"""Operations that do not check whether the sizes of their inputs match."""
