"""Operations that would read or write beyond their tensors."""
