module bellwether.dev/validate/schemas/generate

go 1.26.0
