# The command `ciess` on the CPU: docker build -t ciess . && docker run --rm -v "$PWD:/data" ciess demo
FROM python:3.12-slim AS build
RUN python -m venv /opt/ciess
ENV PATH=/opt/ciess/bin:$PATH
# First and by itself: it is the largest layer and changes least. The CPU build is a tenth of the one with CUDA.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir ".[data,export]"

FROM python:3.12-slim
COPY --from=build /opt/ciess /opt/ciess
# Fonts are cached where any user may write.
ENV PATH=/opt/ciess/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home ciess
USER ciess
WORKDIR /data
ENTRYPOINT ["ciess"]
CMD ["--help"]
